"""The seam: what a tagger is, and the one place that chooses it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from components.tagging.calibration import Lines
from components.tagging.clips import Clip
from components.tagging.params import ClapParams, CnnParams, HfParams, ProbeParams, TaggingParams
from components.tagging.vocabulary import Vocabulary
from components.taxonomy import Tag, Taxonomy


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


def fit_tagger(params: TaggingParams, taxonomy: Taxonomy, library: Library, folder: Path) -> Fitted:
    """Return the tagger that the section asks for, fitted on or judged by the seed library.

    Args:
        params: the section.
        taxonomy: gives labels their groups and names.
        library: tagged tracks; may be empty.
        folder: the tagger of the last run, if there is one; what still holds is taken from it.

    Raises:
        ValueError: a file that the section names cannot be used; it is named.
    """
    match params:
        case ProbeParams():
            from components.tagging.probe import fit_probe_tagger

            return fit_probe_tagger(params, taxonomy, library, folder)
        case CnnParams():
            from components.tagging.cnn import Cnn
            from components.tagging.judge import judged

            return judged(Cnn(params), params, taxonomy, library, folder)
        case HfParams():
            from components.tagging.hf import Hf
            from components.tagging.judge import judged

            return judged(Hf(params), params, taxonomy, library, folder)
        case ClapParams():
            from components.tagging.clap import Clap
            from components.tagging.judge import judged

            return judged(Clap(params, taxonomy), params, taxonomy, library, folder)
        case _:
            assert_never(params)
