"""Training documents of mini-BLOOM: analogies whose last answers are true to their tags.

An exemplar is what people write: words of their own, a tag forgotten or misheard, a remark on what
no tag covers. A model that imitates all of it would make things up. So exemplars are noisy here as
well, but only faithful answers are learnt from (`Piece.learnt`).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from components.captioning.captioner import Tagged
from components.captioning.mini_bloom.frames import WRITTEN, filled, made_up
from components.captioning.prompt import INPUT, OUTPUT, tag_line
from components.modalities import TAG_GROUPS
from components.taxonomy import Tag, Taxonomy

_LETTER: Final = {"genres": "G", "moods": "M", "instruments": "I"}
_COUNTS: Final = {
    "genres": (0, 1, 1, 1, 1, 1, 1, 2),
    "moods": (0, 1, 1, 1, 1, 1, 2),
    "instruments": (0, 1, 2, 2, 3, 3, 3, 4, 4, 5),
}
_LINKS: Final = (" and ", " and ", " and some ", " plus ", ", also ", ", ", " & ", " with ")
_REMARKS: Final = (
    ", no vocals", ", recorded in a small room", ", good for a short film", ", with some noise", ", it ends early", ", a bit too loud",
    ", would suit a cooking show", ", someone laughs", ", nice", ", reminds me of summer", ", live", ", with a strange ending",
    ", could be an advert", ", low quality", ", as in an old game", ", autotuned female vocals", ", for a calm evening", ", no drums at all",
)  # fmt: skip
_SYLLABLES: Final = tuple(
    "ba ko ri ta lu me zo fin dar pel su qua vi ner to mi gra hol ju ska wen dru lis po cha".split()
)
_SHARE_MADE_UP_TAGS: Final = 0.12
_SHARE_NOISY: Final = 0.4


@dataclass(frozen=True)
class Piece:
    """A stretch of a document, and whether the model learns to write it."""

    text: str
    learnt: bool


@dataclass(frozen=True)
class Style:
    """How one describer writes."""

    frame: str
    link: str
    plain: float  # how often the tag's own name is said
    capital: bool
    stop: str

    def sentence(self, said: dict[str, list[str]], remark: str = "") -> str:
        """Return the sentence about words by group."""
        told = {_LETTER[group]: self._joined(words) for group, words in said.items() if words}
        text = filled(self.frame, told) + remark
        return (text[:1].upper() + text[1:] if self.capital else text) + self.stop

    def _joined(self, words: Sequence[str]) -> str:
        return words[0] if len(words) == 1 else ", ".join(words[:-1]) + self.link + words[-1]


def some_style(chance: random.Random, made_up_share: float) -> Style:
    """Draw a describer; ``made_up_share`` of them write in forms that nobody has seen."""
    frame = made_up(chance) if chance.random() < made_up_share else chance.choice(WRITTEN)
    return Style(
        frame=frame,
        link=chance.choice(_LINKS),
        plain=chance.choice((0.6, 0.8, 0.9, 1.0)),
        capital=chance.random() < 0.75,
        stop="." if chance.random() < 0.75 else "",
    )


def some_clip(chance: random.Random, taxonomy: Taxonomy) -> Tagged:
    """Draw a tagged clip out of the taxonomy's vocabulary, now and then with a name that nobody knows."""
    tags = {}
    for group in TAG_GROUPS:
        names = [name for known, name in taxonomy.entries if known == group]
        count = chance.choice(_COUNTS[group])
        drawn = [
            _new_name(chance) if chance.random() < _SHARE_MADE_UP_TAGS else name for name in chance.sample(names, count)
        ]
        tags[group] = _with_probabilities(drawn, chance)
    if not any(tags.values()):
        tags["moods"] = _with_probabilities(["calm"], chance)
    return Tagged("", tags)


def document(chance: random.Random, taxonomy: Taxonomy, exemplars: int, made_up_share: float) -> list[Piece]:
    """Draw a whole analogy: exemplars, then a clip and its answer; the last answer is always faithful."""
    pool = [some_style(chance, made_up_share) for _ in range(1 if chance.random() < 0.4 else chance.randint(2, 4))]
    pieces: list[Piece] = []
    used: list[Style] = []
    for number in range(exemplars + 1):
        last = number == exemplars
        style = chance.choice(used if last and used else pool)
        used.append(style)
        clip = some_clip(chance, taxonomy)
        noisy = not last and chance.random() < _SHARE_NOISY
        told = _misheard(clip, chance, taxonomy) if noisy else clip
        remark = chance.choice(_REMARKS) if noisy and chance.random() < 0.5 else ""
        answer = style.sentence(_words(told, style, chance, taxonomy), remark)
        pieces.append(Piece(f"{INPUT} {tag_line(clip)}\n{OUTPUT}", learnt=False))
        # The first answer has no form to follow: what it looks like is anyone's guess.
        pieces.append(Piece(f" {answer}\n", learnt=not noisy and number > 0))
    return pieces


def _words(clip: Tagged, style: Style, chance: random.Random, taxonomy: Taxonomy) -> dict[str, list[str]]:
    said = {}
    for group in TAG_GROUPS:
        words = []
        for name, _ in clip.tags[group]:
            others = taxonomy.words(group, name)[1:]
            words.append(chance.choice(others) if others and chance.random() >= style.plain else name)
        said[group] = list(dict.fromkeys(words))
    return said


def _misheard(clip: Tagged, chance: random.Random, taxonomy: Taxonomy) -> Tagged:
    """Forget some tags and hear others: a describer does not know what the tagger said."""
    known: list[Tag] = list(taxonomy.entries)
    tags = {}
    for group in TAG_GROUPS:
        kept = [tag for tag in clip.tags[group] if chance.random() < 0.6]
        if chance.random() < 0.35:
            kept = [(chance.choice([name for other, name in known if other == group]), 0.5), *kept]
        tags[group] = tuple(kept)
    return Tagged("", tags if any(tags.values()) else clip.tags)


def _with_probabilities(names: Sequence[str], chance: random.Random) -> tuple[tuple[str, float], ...]:
    likely = sorted((min(1.0, 0.3 + 0.75 * chance.random()) for _ in names), reverse=True)
    return tuple(zip(dict.fromkeys(names), likely, strict=False))


def _new_name(chance: random.Random) -> str:
    return " ".join(
        "".join(chance.choices(_SYLLABLES, k=chance.randint(2, 3))) for _ in range(chance.choice((1, 1, 2)))
    )
