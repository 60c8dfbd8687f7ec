"""Permutations of whole groups: how a statistic varies when there is no drift.

Clips of one artist are alike, so a window of 60 clips by 20 artists varies like 20 things, not 60.
Formulas that count clips then raise false alarms; permuting artists as wholes does not.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.float32]


def shuffled_labels(
    groups: Sequence[str] | NDArray[np.str_], is_window: NDArray[np.bool_], count: int, draw: np.random.Generator
) -> Labels:
    """Return (N, 1 + count) labels, 1 = window: the true ones first, then permutations of whole groups.

    A group that is on both sides counts as two, one on each. Groups differ in size, so a permuted
    window takes groups until it is as near to the true size as they allow.
    """
    names = np.char.add(np.asarray(groups, np.str_), np.where(is_window, "/w", "/r"))
    _, block, sizes = np.unique(names, return_inverse=True, return_counts=True)
    order = draw.random((count, len(sizes))).argsort(axis=1)  # (B, G)
    ends = sizes[order].cumsum(axis=1)
    wanted = int(is_window.sum())
    taken = ends - sizes[order] / 2 < wanted  # a group goes in when most of it fits
    taken[:, 0], taken[:, -1] = True, False
    chosen = np.zeros((count, len(sizes)), np.float32)
    np.put_along_axis(chosen, order, taken.astype(np.float32), axis=1)
    return np.vstack([is_window.astype(np.float32), chosen[:, block]]).T.copy()


def p_value(statistics: NDArray[np.float64]) -> float:
    """Return the share of statistics (1 + B,) that reach the first, the true one, itself included."""
    return float((statistics >= statistics[0] - 1e-12).mean())
