"""The clips that training and validation see, and their features by batch."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.encoder.model import Arrays
from components.modalities import MUSIC, VIDEO, Modality
from components.store import FeatureStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clips:
    """Clips of one split that have video and music.

    Attributes:
        ids: sorted clip ids.
        tracks: (N,) integers; equal numbers are the same track.
    """

    ids: list[str]
    tracks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Features:
    """The stores of training. Captions and annotations come from one text extractor."""

    video: FeatureStore
    music: FeatureStore
    captions: FeatureStore
    annotations: FeatureStore

    def __post_init__(self) -> None:
        if self.captions.digest != self.annotations.digest:
            raise ValueError(
                f"{self.captions.folder} and {self.annotations.folder} come from different text extractors; "
                "run features again for both"
            )

    def clips(self, manifest: Sequence[dict[str, Any]], split: str, least: int) -> Clips:
        """Return the usable clips of a split.

        Raises:
            ValueError: fewer than ``least`` are left.
        """
        rows = sorted((row for row in manifest if row["split"] == split), key=lambda row: row["clip_id"])
        whole = [row for row in rows if row["clip_id"] in self.video and row["clip_id"] in self.music]
        if len(whole) < len(rows):
            log.info(
                "training: %d of %d %s clips lack video or music features and are left out",
                len(rows) - len(whole),
                len(rows),
                split,
            )
        if len(whole) < least:
            raise ValueError(
                f"{len(whole)} usable {split} clips, training.least_{split}_clips asks for {least}; "
                f"add media, or change the shares of the splits in section ingest ({len(manifest)} clips in all)"
            )
        _, tracks = np.unique([row["track_id"] for row in whole], return_inverse=True)
        return Clips([row["clip_id"] for row in whole], tracks.astype(np.int64))

    def store(self, modality: Modality) -> FeatureStore:
        """Return the store of a modality; for text, that of the captions."""
        return {VIDEO: self.video, MUSIC: self.music}.get(modality, self.captions)


@dataclass(frozen=True)
class Texts:
    """One text per clip: the annotation for some, else the caption, else none (an empty mask)."""

    captions: FeatureStore
    annotations: FeatureStore

    def gather(self, clip_ids: Sequence[str], human: NDArray[np.bool_] | None = None) -> Arrays:
        """Return (B, S, D) text features and the (B, S) mask.

        Args:
            clip_ids: the clips.
            human: (B,) True where an annotation, if there is one, goes before the caption; None means all.
        """
        shape = (self.captions.spec["max_segments"], self.captions.spec["dims"])
        values, mask = np.zeros((len(clip_ids), *shape), np.float32), np.zeros((len(clip_ids), shape[0]), np.bool_)
        told = np.array([clip in self.annotations for clip in clip_ids], np.bool_)
        first = told if human is None else told & human
        for store, chosen in ((self.annotations, first), (self.captions, ~first)):
            where = [at for at in np.flatnonzero(chosen).tolist() if clip_ids[at] in store]
            if where:
                values[where], mask[where] = store.gather([clip_ids[at] for at in where])
        return values, mask
