"""How evenly the catalogue is shown: hubs that are in too many lists, and what is in none."""

import numpy as np
from numpy.typing import NDArray

from components.evaluation.relevance import SHOWN


def occurrences(scores: NDArray[np.floating], k: int = SHOWN) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Count for each item the lists of k that it is in.

    Items that tie for the last places share them in equal parts, so the gallery's order changes nothing.

    Args:
        scores: (Q, G).
        k: length of a list.

    Returns:
        (N_k, sure): the k-occurrence (G,), and whether the item is in some list however ties are broken (G,).
    """
    k = min(k, scores.shape[1])
    last = np.partition(scores, -k, axis=1)[:, -k, None]
    above, level = scores > last, scores == last
    places, tied = k - above.sum(axis=1), level.sum(axis=1)
    counted = above.sum(axis=0) + (level * (places / tied)[:, None]).sum(axis=0)
    return counted, (above | (level & (places == tied)[:, None])).any(axis=0)


def skewness(counted: NDArray[np.floating]) -> float:
    """Return the skewness of the k-occurrences (G,), the usual measure of hubness; 0 where all are equal.

    Radovanovic, Nanopoulos and Ivanovic, "Hubs in space", JMLR 11 (2010), equation 1: the third moment
    about the mean over the cubed standard deviation. A few items in most lists make it large.
    """
    centred = counted - counted.mean()
    spread = float(np.sqrt((centred**2).mean()))
    return 0.0 if spread < 1e-9 else float((centred**3).mean() / spread**3)


def by_chance(gallery: int, k: int = SHOWN) -> tuple[float, float]:
    """Return (skewness, coverage) of random lists: N_k is binomial over as many queries as items."""
    share = min(k, gallery) / gallery
    if share == 1.0:
        return 0.0, 1.0
    return (1 - 2 * share) / float(np.sqrt(gallery * share * (1 - share))), 1 - (1 - share) ** gallery
