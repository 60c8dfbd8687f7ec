"""Whether one system is better than another on the same queries: paired differences with intervals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import cluster_weights, interval, rank_metrics, resampled
from components.evaluation.metrics import summarise
from components.evaluation.metrics_file import RankMetrics


def paired_difference(
    rank_a: NDArray[np.integer],
    rank_b: NDArray[np.integer],
    clusters: Sequence[str],
    resamples: int,
    seed: int,
    confidence: float,
) -> RankMetrics:
    """Return every metric of a minus that of b, with the interval of the difference.

    Each resample draws clusters once and takes both systems' ranks of the same queries, so what makes
    a query hard for both cancels. A recall above 0 speaks for a; a median rank below 0 does.

    Args:
        rank_a: (Q,) ranks of one system, 1 = first.
        rank_b: (Q,) ranks of the other, of the same queries in the same order.
        clusters: of each query, see `components.evaluation.clusters`.
        resamples: R.
        seed: of the resamples; equal seeds draw equal clusters.
        confidence: coverage of the intervals, for example 0.95.

    Raises:
        ValueError: the three are not of one length, a rank is below 1, or there are fewer than two
            clusters: resampling one cluster says nothing.
    """
    if not len(rank_a) == len(rank_b) == len(clusters):
        raise ValueError(
            f"a pair needs the same queries: {len(rank_a)} and {len(rank_b)} ranks, {len(clusters)} clusters"
        )
    if len(set(clusters)) < 2:
        raise ValueError(f"{len(set(clusters))} cluster among {len(clusters)} queries: an interval needs two at least")
    if min(rank_a.min(), rank_b.min()) < 1:
        raise ValueError("a rank is below 1; ranks count from 1")
    weights = cluster_weights(clusters, resamples, seed)
    drawn_a, drawn_b = resampled(rank_a, weights), resampled(rank_b, weights)
    value_a, value_b = summarise(rank_a), summarise(rank_b)
    return rank_metrics(
        {name: interval(value_a[name] - value_b[name], drawn_a[name] - drawn_b[name], confidence) for name in value_a}
    )
