"""Retrieval metrics of a score matrix, and what chance would give; pure numpy.

Q queries, G gallery items. A worked example, 2 queries over 4 items:

>>> scores = np.array([[0.9, 0.1, 0.5, 0.2], [0.3, 0.3, 0.8, 0.1]])
>>> positives = np.array([[False, False, True, False], [True, False, False, False]])
>>> rank = ranks(scores, positives)  # second; and third, for 0.8 is above and the other 0.3 ties
>>> {name: round(value, 3) for name, value in summarise(rank).items()}
{'R@1': 0.0, 'R@5': 1.0, 'R@10': 1.0, 'MedR': 2.5, 'MRR': 0.417}
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.encoder.ranking import ranks

__all__ = ["CUTOFFS", "NAMES", "chance", "ranks", "summarise"]

CUTOFFS: Final = (1, 5, 10)
NAMES: Final = (*(f"R@{k}" for k in CUTOFFS), "MedR", "MRR")


def summarise(rank: NDArray[np.integer]) -> dict[str, float]:
    """Return R@1, R@5, R@10 (shares), median rank and mean reciprocal rank of ranks (Q,), 1 = first."""
    recall = {f"R@{k}": float(np.mean(rank <= k)) for k in CUTOFFS}
    return recall | {"MedR": float(np.median(rank)), "MRR": float(np.mean(1.0 / rank))}


def chance(gallery: int, positives: NDArray[np.integer]) -> dict[str, float]:
    """Return the expected metrics of a random order.

    With p positives among N items the best one is within the first k with probability
    1 - C(N-p, k) / C(N, k); for p = 1 that is k / N, with median (N + 1) / 2 and MRR the
    harmonic number H(N) / N.

    Args:
        gallery: N.
        positives: (Q,) number of positives of each query.
    """
    curve = chance_curve(gallery, positives)  # (N,)
    recall = {f"R@{k}": float(curve[min(k, gallery) - 1]) for k in CUTOFFS}
    reached = np.diff(curve, prepend=0.0)  # P(rank = k)
    median = (gallery + 1) / 2 if (positives == 1).all() else float(1 + np.searchsorted(curve, 0.5))
    return recall | {"MedR": float(median), "MRR": float((reached / np.arange(1, gallery + 1)).sum())}


def chance_curve(gallery: int, positives: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return R@k of a random order for k = 1..N, averaged over queries with those numbers of positives."""
    counts, weight = np.unique(positives, return_counts=True)
    k = np.arange(gallery)
    # P(no positive in the first k + 1), factor by factor; no big binomials.
    factors = np.clip((gallery - counts[:, None] - k) / (gallery - k), 0.0, 1.0)  # (counts, N)
    curve: NDArray[np.float64] = ((1.0 - np.cumprod(factors, axis=1)) * weight[:, None]).sum(axis=0) / weight.sum()
    return curve


def recall_curve(rank: NDArray[np.integer], gallery: int) -> NDArray[np.float64]:
    """Return R@k for k = 1..N."""
    curve: NDArray[np.float64] = np.cumsum(np.bincount(rank, minlength=gallery + 1)[1 : gallery + 1]) / len(rank)
    return curve
