"""What a caption copied from the descriptions that were to show only the form."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from components.captioning.wording import plain, words


def leaked(text: Sequence[str], exemplars: Sequence[str], run: int, share: float) -> str:
    """Return the words that a caption took from an exemplar, "" where there is no leak.

    A leak is a run of ``run`` words, or a longest common subsequence of ``share`` of the caption's words.
    Exemplars are there to be imitated ("a ... track with ..."): a caption of fewer than ``run`` words is
    all form, and no leak.

    Args:
        text: the caption's words, in lower case.
        exemplars: the descriptions in its prompt.
        run: words on end.
        share: of the caption's words, in (0, 1].
    """
    if len(text) < run:
        return ""
    for exemplar in exemplars:
        other, runs = _read(exemplar, run)
        copied = [gram in runs for gram in _grams(text, run)]
        if True in copied:
            start = copied.index(True)
            length = [*copied[start:], False].index(False)
            return " ".join(text[start : start + run - 1 + length])
        if _overlap(text, other) >= share * len(text):  # cheap, and never below the subsequence's length
            common = common_subsequence(text, other)
            if len(common) >= share * len(text):
                return " ".join(common)
    return ""


def common_subsequence(one: Sequence[str], two: Sequence[str]) -> list[str]:
    """Return a longest common subsequence, the one that ends earliest in ``one``."""
    lengths = [[0] * (len(two) + 1) for _ in range(len(one) + 1)]
    for i, word in enumerate(one, 1):
        above, row = lengths[i - 1], lengths[i]
        for j, other in enumerate(two, 1):
            row[j] = above[j - 1] + 1 if word == other else max(above[j], row[j - 1])
    found: list[str] = []
    i, j = len(one), len(two)
    while i and j:
        if lengths[i][j] == lengths[i - 1][j]:
            i -= 1
        elif lengths[i][j] == lengths[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append(one[i])
    return found[::-1]


@lru_cache(maxsize=4096)  # clips share exemplars
def _read(exemplar: str, run: int) -> tuple[tuple[str, ...], frozenset[tuple[str, ...]]]:
    found = words(plain(exemplar))
    return found, frozenset(_grams(found, run))


def _grams(text: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(text[at : at + size]) for at in range(len(text) - size + 1))


def _overlap(one: Sequence[str], two: Sequence[str]) -> int:
    return (Counter(one) & Counter(two)).total()
