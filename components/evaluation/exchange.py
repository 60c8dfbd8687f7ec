"""Texts that no single store holds: that of another track (counterfactual), or one of two stores for each clip."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import Gathers
from components.encoder.model import Arrays
from components.store import FeatureStore


def donors(tracks: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return for each clip (n,) the clip whose text it is given: one of another track, each clip once.

    A derangement by track. Clips are laid out track by track, in an order drawn by ``seed``, and each
    takes the text of the clip that stands further on by the size of the largest track, in a circle: no
    track reaches that far. Where one track has more than half of all clips there is no such exchange;
    the clips that would get a text of their own track are then their own donors.
    """
    rng = np.random.default_rng(seed)
    member = np.unique(np.asarray(tracks), return_inverse=True)[1]
    place = rng.permutation(member.max() + 1)[member]  # of each clip's track
    order = np.lexsort((rng.permutation(len(member)), place))
    shift = int(np.bincount(member).max())
    given = np.empty(len(member), np.int64)
    given[order] = np.roll(order, -shift)
    return np.where(member[given] == member, np.arange(len(member)), given)


class Exchanged:
    """A text source in which each clip has the text of its donor."""

    def __init__(self, source: Gathers, ids: Sequence[str], donor: Sequence[str]) -> None:
        self._source, self._donor = source, dict(zip(ids, donor, strict=True))

    def gather(self, clip_ids: Sequence[str]) -> Arrays:
        """Return (B, S, D) features of the donors' texts and their mask (B, S)."""
        return self._source.gather([self._donor[clip] for clip in clip_ids])


class EitherText:
    """A text source over two stores: a clip's text in the first, else that in the second, else none.

    With a share below 1 the first store serves that share of its clips alone; which ones follows from seed and clip
    id, so it is the same in any order and among any other clips.
    """

    def __init__(self, first: FeatureStore, second: FeatureStore, share: float = 1.0, seed: int = 0) -> None:
        self._first, self._second, self._share, self._seed = first, second, share, seed

    def gather(self, clip_ids: Sequence[str]) -> Arrays:
        """Return (B, S, D) features and their mask (B, S); the mask of a clip without a text is empty."""
        spec = self._second.spec
        values = np.zeros((len(clip_ids), spec["max_segments"], spec["dims"]), np.float32)
        mask = np.zeros(values.shape[:2], np.bool_)
        first = np.array([clip in self._first and self._drawn(clip) for clip in clip_ids], np.bool_)
        second = np.array([clip in self._second for clip in clip_ids], np.bool_) & ~first
        for store, served in ((self._first, first), (self._second, second)):
            if served.any():
                values[served], mask[served] = store.gather(
                    [clip for clip, own in zip(clip_ids, served, strict=True) if own]
                )
        return values, mask

    def _drawn(self, clip_id: str) -> bool:
        drawn = hashlib.sha256(f"{self._seed}:{clip_id}".encode()).digest()[:8]
        return int.from_bytes(drawn, "big") / 2.0**64 < self._share
