"""Clips as the drift tests see them: one row per clip, nothing per segment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Some clips of a corpus.

    Attributes:
        clip_ids: (N,) names.
        groups: (N,) what clips of one origin have in common: their artist, or else their video.
        features: (N, D) by modality: each clip's mean over its segments.
        scalars: (N,) by name: plain numbers of the media.
        tags: (N,) the tags of each clip, as `group:name`, the most probable of a group first.
        alignment: (N,) cosine of the model's embeddings of a clip's pictures and of its music; NaN where
            unknown, and for clips that the model was trained on, which fit better than others.
    """

    clip_ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    features: Mapping[str, Array]
    scalars: Mapping[str, NDArray[np.float64]]
    tags: tuple[tuple[str, ...], ...]
    alignment: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def take(self, rows: Rows) -> "Sample":
        """Return the clips at `rows`, in that order."""
        return Sample(
            clip_ids=self.clip_ids[rows],
            groups=self.groups[rows],
            features={name: array[rows] for name, array in self.features.items()},
            scalars={name: array[rows] for name, array in self.scalars.items()},
            tags=tuple(self.tags[row] for row in rows),
            alignment=self.alignment[rows],
        )

    def without_tags(self) -> "Sample":
        """Return the same clips, for a comparison with tags of another tagger."""
        return replace(self, tags=((),) * len(self))

    def thinned(self, most: int, seed: int) -> "Sample":
        """Return at most `most` clips, drawn by chance."""
        if len(self) <= most:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False)))
