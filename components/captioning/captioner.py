"""The seam: what a captioner is given, what it returns, and the one place that chooses it."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from components.captioning.params import BloomParams, CaptioningParams, Data2TextParams, TagsParams
from components.modalities import TAG_GROUPS

NO_TAGS_TEXT = "A piece of music."  # honest: nothing is known about the clip


@dataclass(frozen=True)
class Tagged:
    """A clip and its tags: per group, (name, probability), likeliest first."""

    clip_id: str
    tags: Mapping[str, tuple[tuple[str, float], ...]]

    @property
    def digest(self) -> str:
        """Return the sha256 of the tags."""
        listed = [[group, [list(tag) for tag in self.tags[group]]] for group in TAG_GROUPS]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    @property
    def is_empty(self) -> bool:
        """True where no group has a tag."""
        return not any(self.tags.values())


@dataclass(frozen=True)
class Exemplar:
    """A clip that a human described; it shows the language model what to write."""

    clip: Tagged
    text: str


@dataclass(frozen=True)
class Caption:
    """A captioner's answer. ``verdict``: ok, no_tags, or fallback (the model's answer was unusable)."""

    clip_id: str
    text: str
    verdict: str
    attempts: int
    exemplar_ids: tuple[str, ...] = ()


class Captioner(Protocol):
    """Writes one caption per clip; the caption of a clip does not depend on the other clips."""

    @property
    def version(self) -> str:
        """Name of everything that decides a caption, its tags apart; a change makes captions anew."""
        ...

    @property
    def seed(self) -> int:
        """The seed that was used; 0 where chance plays no part."""
        ...

    def caption(self, clips: Sequence[Tagged]) -> Iterator[Caption]:
        """Yield the captions of clips that have tags, in order."""
        ...


def build_captioner(params: CaptioningParams, exemplars: Sequence[Exemplar]) -> Captioner:
    """Return the captioner that the section asks for; only ``bloom`` uses exemplars."""
    match params:
        case TagsParams():
            from components.captioning.concatenated import Concatenated

            return Concatenated()
        case Data2TextParams():
            from components.captioning.data2text import Data2Text

            return Data2Text(params)
        case BloomParams():
            from components.captioning.bloom import Bloom

            return Bloom(params, exemplars)
        case _:
            assert_never(params)


def read_tags(row: Mapping[str, Any]) -> Tagged:
    """Return a row of the tags table as a clip with tags."""
    tags = {
        group: tuple(
            sorted(
                ((tag["name"], tag["probability"]) for tag in row["tags"] if tag["group"] == group),
                key=lambda tag: (-tag[1], tag[0]),
            )
        )
        for group in TAG_GROUPS
    }
    return Tagged(row["clip_id"], tags)


def chance(seed: int, *names: str) -> random.Random:
    """Return random numbers that depend on the seed and the names alone, the same everywhere."""
    return random.Random(hashlib.sha256(json.dumps([seed, *names]).encode()).digest())


def version_of(kind: str, number: int, *parts: Any) -> str:
    """Return a version: the kind, its formula's number, and a digest of its settings."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return f"{kind}-{number}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
