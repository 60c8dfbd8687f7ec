"""Queries with other words: the text of another track (counterfactual), or the caption for the annotation."""

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


class Instead:
    """A text source that gives one store's text where it has one, and another's where not."""

    def __init__(self, first: FeatureStore, otherwise: FeatureStore) -> None:
        self._first, self._otherwise = first, otherwise

    def gather(self, clip_ids: Sequence[str]) -> Arrays:
        """Return (B, S, D) features and their mask (B, S)."""
        values, mask = self._otherwise.gather(clip_ids)
        own = np.array([clip in self._first for clip in clip_ids])
        if own.any():
            values[own], mask[own] = self._first.gather([clip for clip in clip_ids if clip in self._first])
        return values, mask
