"""The seam: what a tagger is, what it is fitted on or judged by, and what comes of that. See ``build``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from components.tagging.calibration import Lines
from components.tagging.clips import Clip
from components.tagging.vocabulary import Vocabulary
from components.taxonomy import Tag


class Tagger(Protocol):
    """Gives clips a probability for each of its L labels; a clip's do not depend on the other clips."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The tagger's words, in the order of its probabilities."""
        ...

    @property
    def digest(self) -> str:
        """The sha256 of all that decides a clip's probabilities, its content apart."""
        ...

    def keys(self, clips: Sequence[Clip]) -> dict[str, str]:
        """Return the key of its content for each clip that can be tagged at all."""
        ...

    def score(self, clips: Sequence[Clip]) -> Iterator[tuple[str, NDArray[np.float64] | Exception]]:
        """Yield (clip_id, (L,) probabilities or what stopped them), in any order."""
        ...


@dataclass(frozen=True)
class Library:
    """The seed library: rows of `tables.SEED`, and where features of its tracks and of the clips lie."""

    rows: Sequence[Mapping[str, Any]]
    features: Path
    clip_features: Path


@dataclass(frozen=True)
class Fitted:
    """A tagger, what its labels mean, and what the seed library says about it."""

    tagger: Tagger
    vocabulary: Vocabulary
    lines: Lines
    """Per group, what calibrates its scores; none where they stay as they are."""
    scores: Mapping[str, Any]
    """How good it is on tracks that it was not fitted on; scores.json."""
    left_out: Sequence[tuple[Tag, int]]
    """Tags that too few tracks of the library carry, or lack, and how many carry them."""
    config: Mapping[str, Any]
    """What config.json holds, the params apart."""
    files: Mapping[str, bytes]
    """The folder's other files."""
    notes: Sequence[str] = field(default=())
    """What the user should know, one line each."""
    refused: Sequence[Mapping[str, str]] = field(default=())
    """Tracks of the library that could not be tagged; rows of the quarantine."""
