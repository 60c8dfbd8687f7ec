"""Paired differences of R@10 on the same queries, resampled by cluster.

The draws are those of `components.evaluation.bootstrap.cluster_weights`, so every figure equals what
`paired_difference` gives. Here they are applied to sums per cluster, (R, K) @ (K, V), which costs a
fraction and serves slices and worst-of-slices as well.

Shapes: Q queries, K clusters, R resamples, V columns (systems, slices).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import cluster_weights, interval

Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """A figure with its interval.

    Attributes:
        value: on the queries themselves.
        low: and high: ends of the percentile interval.
        error: standard deviation over the resamples.
        queries: how many it rests on.
    """

    value: float
    low: float
    high: float
    error: float
    queries: int

    def as_json(self) -> dict[str, float | int]:
        """As plain values."""
        return dict(self.__dict__)


class Resampling:
    """Draws of whole clusters, shared by every comparison on these queries."""

    def __init__(self, clusters: Sequence[str], resamples: int, seed: int) -> None:
        """Draw once.

        Raises:
            ValueError: fewer than two clusters: resampling one says nothing.
        """
        names, self._member = np.unique(np.asarray(clusters), return_inverse=True)
        if len(names) < 2:
            raise ValueError(f"{len(names)} cluster among {len(clusters)} queries: an interval needs two at least")
        self.clusters = len(names)
        self._drawn = cluster_weights(names.tolist(), resamples, seed)  # (R, K)

    def shares(self, hits: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the share of hits among counted queries in each resample (R, V); NaN where none was drawn.

        Args:
            hits: (Q, V).
            counted: (Q, V), which queries count for which column.
        """
        # Sums stay below 2^24, where float32 counts exactly.
        part, whole = self._drawn @ self._totals(hits & counted), self._drawn @ self._totals(counted)
        with np.errstate(invalid="ignore"):
            share: NDArray[np.float64] = part.astype(np.float64) / whole
        return share

    def _totals(self, values: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the sums (K, V) per cluster of values (Q, V)."""
        totals = np.zeros((self.clusters, values.shape[1]), np.float32)
        np.add.at(totals, self._member, values)
        return totals

    def share(self, hits: Hits, confidence: float) -> Difference:
        """Return one system's share of hits (Q,)."""
        sampled = self.shares(hits[:, None], np.ones((len(hits), 1), np.bool_))[:, 0]
        return estimate(float(hits.mean()), sampled, confidence, len(hits))

    def difference(self, ours: Hits, theirs: Hits, confidence: float) -> Difference:
        """Return the share of hits of ours less that of theirs (Q,)."""
        sampled = self.shares(np.stack([ours, theirs], axis=1), np.ones((len(ours), 2), np.bool_))
        return estimate(float(ours.mean() - theirs.mean()), sampled[:, 0] - sampled[:, 1], confidence, len(ours))


def estimate(value: float, sampled: NDArray[np.float64], confidence: float, queries: int) -> Difference:
    """Return a value with the percentiles and the spread of its resamples (R,); those with no queries are left out."""
    known = sampled[np.isfinite(sampled)]
    ends = interval(value, known, confidence)
    return Difference(value, ends.low, ends.high, float(known.std()), queries)
