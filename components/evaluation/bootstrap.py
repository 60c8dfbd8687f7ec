"""Bootstrap intervals of retrieval metrics: queries are resampled by cluster, the gallery stays."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from components.evaluation.metrics import CUTOFFS, summarise
from components.evaluation.metrics_file import Interval, RankMetrics

CHUNK = 250  # resamples at a time: bounds memory at CHUNK x Q float32


def cluster_weights(clusters: Sequence[str], resamples: int, seed: int) -> NDArray[np.float32]:
    """Return how often each query counts in each resample (R, Q).

    Whole clusters (artists) are drawn with replacement: queries of one artist are alike, and
    drawing them one by one would make the intervals too narrow.
    """
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=resamples)
    return drawn[:, member].astype(np.float32)


def intervals(rank: NDArray[np.integer], weights: NDArray[np.float32], confidence: float) -> RankMetrics:
    """Return every metric of ranks (Q,) with its interval, percentile bootstrap."""
    sampled = resampled(rank, weights)
    return rank_metrics({name: interval(value, sampled[name], confidence) for name, value in summarise(rank).items()})


def rank_metrics(by_name: Mapping[str, Interval]) -> RankMetrics:
    """Return figures by the names of `components.evaluation.metrics` as one value."""
    return RankMetrics.model_validate(by_name)


def mean_interval(values: NDArray[np.floating], weights: NDArray[np.float32], confidence: float) -> Interval:
    """Return the mean of one number per query (Q,) with its interval."""
    sampled = weights.astype(np.float64) @ values.astype(np.float64) / weights.sum(axis=1)
    return interval(float(values.mean()), sampled, confidence)


def interval(value: float, sampled: NDArray[np.floating], confidence: float) -> Interval:
    """Return a value with the percentiles of its resamples (R,)."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(sampled, [tail, 1.0 - tail])
    return Interval(value=value, low=float(low), high=float(high))


def resampled(rank: NDArray[np.integer], weights: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Return every metric of ranks (Q,) in each resample (R,)."""
    order = np.argsort(rank, kind="stable")
    ascending, weights = rank[order], weights[:, order]
    total = weights.sum(axis=1)
    hits = np.stack([ascending <= k for k in CUTOFFS] + [1.0 / ascending], axis=1).astype(np.float64)
    means = weights.astype(np.float64) @ hits / total[:, None]  # (R, cutoffs + 1)
    sampled = {f"R@{k}": means[:, at] for at, k in enumerate(CUTOFFS)} | {"MRR": means[:, -1]}
    medians = []
    for start in range(0, len(weights), CHUNK):
        reached = np.cumsum(weights[start : start + CHUNK], axis=1)
        half = total[start : start + CHUNK, None] / 2.0
        # The weighted median: midway when half the weight ends exactly at an item, as np.median does.
        below, upto = (reached < half).sum(axis=1), (reached <= half).sum(axis=1)
        medians.append((ascending[below] + ascending[np.minimum(upto, len(rank) - 1)]) / 2.0)
    return sampled | {"MedR": np.concatenate(medians)}
