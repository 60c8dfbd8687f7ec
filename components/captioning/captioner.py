"""The seam: what a captioner is, what it is given and what it returns. No backend is known here; see ``build``."""

import hashlib
import json
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.captioning.completion import Completion
from components.code import code_digest
from components.modalities import TAG_GROUPS
from components.taxonomy import Taxonomy

# Verdicts.
OK = "ok"
NO_TAGS = "no_tags"
FALLBACK = "fallback"  # no answer of the model was good enough: a template's sentence
QUARANTINED = "quarantined"  # the same, and the parameters want no template

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
class Attempt:
    """One try of a language model, and why it was not good enough (no reasons: it was)."""

    completion: Completion
    text: str  # the caption cut out of it
    exemplars: tuple[Exemplar, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Caption:
    """A captioner's answer, and all tries that led to it where a language model was asked."""

    clip_id: str
    text: str
    verdict: str
    exemplar_ids: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()


class Captioner(Protocol):
    """Writes one caption per clip; the caption of a clip does not depend on the other clips."""

    @property
    def version(self) -> str:
        """Name of everything that decides a caption, its tags and exemplars apart; a change makes captions anew."""
        ...

    @property
    def seed(self) -> int:
        """The seed that was used; 0 where chance plays no part."""
        ...

    @property
    def model(self) -> str:
        """The language model and its revision; empty where there is none."""
        ...

    def key(self, clip: Tagged, attempts: int) -> str:
        """Return the digest of the prompts that led to a caption after so many tries; empty where there are none."""
        ...

    def caption(self, clips: Sequence[Tagged]) -> Iterator[Caption]:
        """Yield the captions of clips that have tags, in any order."""
        ...


@dataclass(frozen=True)
class Sources:
    """What captioners may draw on."""

    taxonomy: Taxonomy
    exemplars: Sequence[Exemplar]  # described train clips
    names: Collection[str]  # titles and artists, which no caption may tell
    journal: Path  # answers of a run that was stopped
    paid: Sequence[Mapping[str, Any]] = ()  # rows of tables.COMPLETIONS: answers behind the last run's captions


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


def version_of(kind: str, captioner: type, *parts: Any) -> str:
    """Return a version: the kind, and a digest of the captioner's code and of its settings."""
    text = json.dumps([code_digest(captioner), *parts], sort_keys=True, default=str)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def digest_of(parts: Any) -> str:
    """Return the sha256 of anything JSON can say."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
