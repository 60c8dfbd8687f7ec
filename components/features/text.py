"""Text features: hashed counts of words and of runs of characters (Weinberger et al., 2009)."""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from components.features.params import TextParams
from components.features.source import Source

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
MAX_CHARS = 20_000  # of a text; a longer one is not a description


class NoWordsError(ValueError):
    """A text without a letter or a digit."""

    reason = "no_words"


def text_features(source: Source, params: TextParams) -> NDArray[np.float32]:
    """Return (1, D): the first half counts words and runs of words, the second runs of characters.

    Characters bring spellings of one word together (folk, folky); words keep meanings apart. Each
    half has length sqrt(1/2), so the whole has length 1.

    Raises:
        NoWordsError: nothing to count.
    """
    words = words_of(source.text)
    if not words:
        raise NoWordsError("the text has no letter or digit")
    half = params.dims // 2
    parts = (
        _hashed(_word_runs(words, params.word_ngram), half),
        _hashed(_character_runs(words, params.char_ngram_min, params.char_ngram_max), params.dims - half),
    )
    return np.concatenate(parts)[None, :].astype(np.float32)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, with compatible characters made one (NFKC)."""
    return _WORD.findall(unicodedata.normalize("NFKC", text[:MAX_CHARS]).casefold())


def _word_runs(words: list[str], longest: int) -> Iterator[str]:
    for length in range(1, longest + 1):
        for first in range(len(words) - length + 1):
            yield " ".join(words[first : first + length])


def _character_runs(words: list[str], shortest: int, longest: int) -> Iterator[str]:
    for word in words:
        marked = f"<{word}>"
        for length in range(shortest, longest + 1):
            for first in range(max(1, len(marked) - length + 1)):
                yield marked[first : first + length]


def _hashed(runs: Iterator[str], dims: int) -> NDArray[np.float64]:
    """Return (dims,) of length sqrt(1/2): 1 + log count of each run, at its hash, with its sign."""
    row = np.zeros(dims)
    for run, count in Counter(runs).items():
        code = zlib.crc32(run.encode("utf-8", "surrogatepass"))  # the same in every process, unlike hash()
        row[(code >> 1) % dims] += (1 if code & 1 else -1) * (1 + np.log(count))
    length = np.linalg.norm(row)
    return np.asarray(row * (np.sqrt(0.5) / length)) if length else row
