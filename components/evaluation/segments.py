"""Single segments of clips: the middle of the video, and the music that sounds then."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.encoder.model import Arrays
from components.store import FeatureStore


def middle_segments(store: FeatureStore, clip_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the index (N,) of each clip's middle valid segment."""
    return store.segments[store.rows_of(clip_ids)] // 2


def segments_at(store: FeatureStore, clip_ids: Sequence[str], place: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index (N,) of the segment nearest to each clip's ``place``, 0 = first, 1 = last.

    Extractors spread segments evenly from a clip's start to its end, so places are times.
    """
    last = store.segments[store.rows_of(clip_ids)] - 1
    return np.rint(place * last).astype(np.int64)


class OneSegment:
    """A store seen through one segment per clip."""

    def __init__(self, store: FeatureStore, clip_ids: Sequence[str], index: NDArray[np.int64]) -> None:
        self._store, self._index = store, dict(zip(clip_ids, index, strict=True))

    def gather(self, clip_ids: Sequence[str]) -> Arrays:
        """Return (B, 1, D) features and a (B, 1) mask that is all True."""
        values, mask = self._store.gather(clip_ids)
        rows, index = np.arange(len(clip_ids)), np.array([self._index[clip] for clip in clip_ids])
        return values[rows, index][:, None], mask[rows, index][:, None]
