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

CHUNK = 512  # clips read at once where all are looked through

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clips:
    """Clips of one split that have video and music.

    Attributes:
        ids: sorted clip ids.
        tracks: (N,) integers; equal numbers are the same track.
        artists: (N,) integers; equal numbers are the same artist.
        texts: what there is to read of them.
    """

    ids: list[str]
    tracks: NDArray[np.int64]
    artists: NDArray[np.int64]
    texts: "Texts"

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

        A clip whose video or music features hold NaN or infinity is left out, and said.

        Raises:
            ValueError: fewer than ``least`` are left, or all are clips of one track.
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
        broken = self._broken([row["clip_id"] for row in whole])
        if broken:
            log.info(
                "training: %d %s clips have NaN or infinite features and are left out, first %s; run features again",
                len(broken), split, min(broken),
            )  # fmt: skip
            whole = [row for row in whole if row["clip_id"] not in broken]
        if len(whole) < least:
            raise ValueError(
                f"{len(whole)} usable {split} clips, training.least_{split}_clips asks for {least}; "
                f"add media, or change the shares of the splits in section ingest ({len(manifest)} clips in all)"
            )
        tracks, artists = (_numbered([row[key] for row in whole]) for key in ("track_id", "artist_id"))
        if tracks.max() == 0:
            raise ValueError(
                f"all {len(whole)} usable {split} clips are of one track ({whole[0]['track_id']}), so none can be told "
                "from another; add clips of other tracks, or mend track_id in the manifest"
            )
        ids = [row["clip_id"] for row in whole]
        return Clips(ids, tracks, artists, Texts(self.captions, self.annotations, ids))

    def _broken(self, clip_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for store in (self.video, self.music):
            found.update(clip_ids[at] for at in not_finite(store, store.rows_of(clip_ids)))
        return found

    def store(self, modality: Modality) -> FeatureStore:
        """Return the store of a modality; for text, that of the captions."""
        return {VIDEO: self.video, MUSIC: self.music}.get(modality, self.captions)


class Texts:
    """The texts of given clips: the annotation for some, else the caption, else none.

    A text with NaN or infinite features is no text, and that is said. Shapes: B samples, S segments, D dims.

    Attributes:
        segments: S.
    """

    def __init__(self, captions: FeatureStore, annotations: FeatureStore, clip_ids: Sequence[str]) -> None:
        self.segments = int(captions.spec["max_segments"])
        self._dims = int(captions.spec["dims"])
        self._at = {clip: at for at, clip in enumerate(clip_ids)}
        self._stores = (annotations, captions)
        self._rows = [_places(store, clip_ids) for store in self._stores]  # -1 where there is none
        self._lengths = [
            np.where(rows >= 0, store.segments[rows] if len(store) else 0, 0)
            for store, rows in zip(self._stores, self._rows, strict=True)
        ]

    def lengths(self, at: NDArray[np.int64], human: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the segments (B,) of each clip's text, 0 where it has none.

        Args:
            at: (B,) numbers of clips, by the order given.
            human: (B,) True where an annotation, if there is one, goes before the caption.
        """
        return np.where(self._told(at, human), self._lengths[0][at], self._lengths[1][at])

    def take(self, at: NDArray[np.int64], human: NDArray[np.bool_]) -> NDArray[np.float16]:
        """Return the features (B, S, D) of the same texts, zeros where there is none."""
        told = self._told(at, human)
        values = np.zeros((len(at), self.segments, self._dims), np.float16)
        for store, rows, chosen in zip(self._stores, self._rows, (told, ~told), strict=True):
            where = np.flatnonzero(chosen & (rows[at] >= 0))
            if len(where):
                values[where] = store.take(rows[at[where]])[0]
        return values

    def gather(self, clip_ids: Sequence[str]) -> Arrays:
        """Return (B, S, D) float32 features and the (B, S) mask, annotations before captions."""
        at = np.array([self._at[clip] for clip in clip_ids], np.int64)
        human = np.ones(len(at), np.bool_)
        mask = np.arange(self.segments) < self.lengths(at, human)[:, None]
        return self.take(at, human).astype(np.float32), mask

    def described(self) -> NDArray[np.int64]:
        """Return the numbers of the clips that have a text."""
        return np.flatnonzero((self._rows[0] >= 0) | (self._rows[1] >= 0))

    def _told(self, at: NDArray[np.int64], human: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return human & (self._rows[0][at] >= 0)


def not_finite(store: FeatureStore, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of ``rows`` hold NaN or infinity, as positions in ``rows``."""
    found = []
    for start in range(0, len(rows), CHUNK):
        values, _ = store.take(rows[start : start + CHUNK])
        # All ones in the exponent is infinity or NaN; several times as fast as isfinite on float16.
        bad = (values.view(np.uint16) & 0x7C00).reshape(len(values), -1).max(axis=1) == 0x7C00
        found.append(start + np.flatnonzero(bad))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _places(store: FeatureStore, clip_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the (N,) rows of clips, -1 where the store has none, or one that is not finite."""
    places = np.full(len(clip_ids), -1, np.int64)
    where = np.array([at for at, clip in enumerate(clip_ids) if clip in store], np.int64)
    places[where] = store.rows_of([clip_ids[at] for at in where])
    broken = where[not_finite(store, places[where])]
    if len(broken):
        log.info(
            "training: %d texts of %s are NaN or infinite and count as none, first %s; run features again",
            len(broken), store.folder, clip_ids[broken[0]],
        )  # fmt: skip
        places[broken] = -1
    return places


def _numbered(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
