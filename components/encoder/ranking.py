"""Ranks of the right answer in a score matrix; pure numpy. Q queries, G gallery items."""

import numpy as np
from numpy.typing import NDArray

BLOCK = 256  # queries counted at a time: bounds memory at BLOCK x G


def competitors(
    scores: NDArray[np.floating], positives: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the wrong items above, and exactly level with, each query's best positive.

    A query may have several positives (clips of one track): the best one counts, and the others
    are no competitors.

    Args:
        scores: (Q, G), higher is better.
        positives: (Q, G), True where the item answers the query.

    Returns:
        (above, level), each (Q,).

    Raises:
        ValueError: a query has no positive, or a score is not a number.
    """
    if scores.shape != positives.shape:
        raise ValueError(f"scores {scores.shape} and positives {positives.shape} differ in shape")
    if not positives.any(axis=1).all():
        raise ValueError(f"query {int(np.argmin(positives.any(axis=1)))} has no positive in the gallery")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN; the model or its inputs are broken")
    above, level = np.empty((2, len(scores)), np.int64)
    for start in range(0, len(scores), BLOCK):
        block, right = scores[start : start + BLOCK], positives[start : start + BLOCK]
        best = np.where(right, block, -np.inf).max(axis=1, keepdims=True)
        above[start : start + BLOCK] = ((block > best) & ~right).sum(axis=1)
        level[start : start + BLOCK] = ((block == best) & ~right).sum(axis=1)
    return above, level


def ranks(scores: NDArray[np.floating], positives: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return each query's rank (Q,), 1 = first; ties go against us, so a constant model scores worst.

    >>> scores = np.array([[0.9, 0.1, 0.5, 0.2], [0.3, 0.3, 0.8, 0.1]])
    >>> positives = np.array([[False, False, True, False], [True, False, False, False]])
    >>> ranks(scores, positives)  # 0.9 is above 0.5; 0.8 is above 0.3 and the other 0.3 ties with it
    array([2, 3])
    """
    above, level = competitors(scores, positives)
    return 1 + above + level
