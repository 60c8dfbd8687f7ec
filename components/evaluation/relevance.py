"""Graded relevance: how alike two clips' music is by its tags, and nDCG@10 by that.

One-positive recall counts every track but one as wrong, also those that would do as well. Here the
relevance of clip j for a query of clip i is the weighted Jaccard index of their tag probabilities,
sum_t min(p_it, p_jt) / sum_t max(p_it, p_jt) over all tags of all groups (Ruzicka similarity): 1 for
equal tags, 0 for none in common. Clips of one track are relevant to each other by 1, whatever their tags.

nDCG@10 (Jarvelin and Kekalainen, 2002) takes the relevance itself as the gain and 1 / log2(place + 1) as
the discount, divided by what the best possible order would reach.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Tags = Mapping[str, Sequence[Mapping[str, Any]]]  # clip_id -> (group, name, probability) each

SHOWN: Final = 10  # places of a list that people look at


def relevance(clip_ids: Sequence[str], tags: Tags, same_track: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (N, N): the relevance of the music of clip j for a query of clip i, 0 to 1."""
    places: dict[tuple[str, str], int] = {}
    named = [[(places.setdefault((t["group"], t["name"]), len(places)), t["probability"]) for t in tags.get(clip, ())]
             for clip in clip_ids]  # fmt: skip
    table = np.zeros((len(clip_ids), max(1, len(places))), np.float32)
    for row, listed in zip(table, named, strict=True):
        for place, probability in listed:
            row[place] = probability
    total = table.sum(axis=1)
    jaccard = np.zeros((len(clip_ids), len(clip_ids)), np.float32)
    for at, row in enumerate(table):
        shared = np.minimum(row, table).sum(axis=1)
        # The sum of maxima is what both have less what they share.
        np.divide(shared, total[at] + total - shared, out=jaccard[at], where=shared > 0)
    return np.where(same_track, np.float32(1.0), np.minimum(jaccard, 1.0))


def ndcg(scores: NDArray[np.floating], relevant: NDArray[np.floating], k: int = SHOWN) -> NDArray[np.float64]:
    """Return nDCG@k (Q,); items with equal scores are taken least relevant first, so ties never help.

    >>> scores = np.array([[0.9, 0.5, 0.1]])
    >>> relevant = np.array([[0.5, 0.0, 1.0]])  # DCG 0.5 + 1/2 = 1, best 1 + 0.5 / log2(3)
    >>> round(float(ndcg(scores, relevant)[0]), 4)
    0.7602
    """
    k = min(k, scores.shape[1])
    return _share(_gains(scores, relevant, k) @ _discount(k), relevant, k)


def ndcg_by_chance(relevant: NDArray[np.floating], k: int = SHOWN) -> NDArray[np.float64]:
    """Return the expected nDCG@k (Q,) of a random order: every place holds the mean relevance."""
    k = min(k, relevant.shape[1])
    return _share(relevant.mean(axis=1, dtype=np.float64) * _discount(k).sum(), relevant, k)


def _discount(k: int) -> NDArray[np.float64]:
    discount: NDArray[np.float64] = 1.0 / np.log2(np.arange(2, k + 2))
    return discount


def _share(gained: NDArray[np.float64], relevant: NDArray[np.floating], k: int) -> NDArray[np.float64]:
    """Return what was gained (Q,) over the most that an order could gain; 0 where nothing is relevant."""
    first = np.sort(np.partition(relevant, -k, axis=1)[:, -k:].astype(np.float64), axis=1)[:, ::-1]
    best = first @ _discount(k)
    share: NDArray[np.float64] = np.divide(gained, best, out=np.zeros_like(gained), where=best > 0)
    return share


def _gains(scores: NDArray[np.floating], relevant: NDArray[np.floating], k: int) -> NDArray[np.float64]:
    """Return the relevance (Q, k) of the first k items in order."""
    first = np.argpartition(scores, -k, axis=1)[:, -k:]
    last = np.take_along_axis(scores, first, axis=1).min(axis=1)
    # Where more items than fit share the last score, the partition's choice among them is arbitrary.
    for at in np.flatnonzero((scores >= last[:, None]).sum(axis=1) > k):
        first[at] = np.lexsort((relevant[at], -scores[at]))[:k]
    gains = np.take_along_axis(relevant, first, axis=1)
    order = np.lexsort((gains, -np.take_along_axis(scores, first, axis=1)), axis=1)
    return np.take_along_axis(gains, order, axis=1).astype(np.float64)
