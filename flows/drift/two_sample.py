"""The two-sample tests, by permutations of whole groups.

Clips of one artist are alike, so a window of 60 clips by 20 artists varies like 20 things, not 60.
Formulas that count clips then raise false alarms; permuting artists as wholes does not. Each test takes
labels of `shuffled_labels`, the true ones in column 0.

N clips of both sides, D columns, B permutations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Labels = NDArray[np.float32]

_CUTS = 64
_RIDGE = 0.1
"""Penalty of the classifier, in variances of a column."""


@dataclass(frozen=True)
class Result:
    """What one test says.

    Attributes:
        p: probability of a statistic as large when there is no drift.
        statistic: in its own unit, see the function.
        worst: column with the largest difference, where the test has columns.
        each: (D,) statistic of every column, where it has columns.
    """

    p: float
    statistic: float
    worst: int | None = None
    each: tuple[float, ...] = ()


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


def kolmogorov_smirnov(columns: Matrix, labels: Labels) -> Result:
    """Two-sample Kolmogorov-Smirnov for every column of (N, D), corrected for the number of columns.

    The statistic is the largest distance between the two distribution functions, 0 to 1. The correction
    is Holm's step-down on the distribution of the largest one (Westfall and Young 1993): it holds for
    columns that depend on each other and, as permutations are of groups, for clips that do. The
    functions are compared at 64 quantiles of both sides together (at every value, where values are fewer).
    """
    size = labels.sum(axis=0)
    rest = len(labels) - size
    distances = np.empty((columns.shape[1], labels.shape[1]), np.float32)
    for number, column in enumerate(columns.T):
        below = (column[None, :] <= _cuts(column)[:, None]).astype(np.float32)  # (Q, N)
        inside = below @ labels
        outside = below.sum(axis=1, keepdims=True) - inside
        distances[number] = np.abs(inside / size - outside / rest).max(axis=0)
    scale = np.sqrt(size * rest / (size + rest))  # permuted windows differ a little in size
    largest = (distances * scale).max(axis=0).astype(np.float64)
    each = distances[:, 0].astype(np.float64)
    worst = int(each.argmax())
    return Result(p_value(largest), float(each[worst]), worst, tuple(each.tolist()))


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values (Holm 1979), in the order given."""
    order = p_values.argsort(kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(raised)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def mean_discrepancy(columns: Matrix, labels: Labels) -> Result:
    """Squared maximum mean discrepancy, unbiased, RBF kernel of median width (Gretton et al. 2012).

    The kernel is computed once over both sides together; permutations only sum it differently.
    """
    square = (columns**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square[None, :] - 2 * columns @ columns.T, 0)
    width = float(np.median(distance[np.triu_indices(len(distance), 1)])) or 1.0
    kernel = np.exp(distance / -width)
    np.fill_diagonal(kernel, 0.0)
    size = labels.sum(axis=0, dtype=np.float64)
    rest = len(labels) - size
    towards = kernel @ labels  # (N, 1 + B)
    within = (labels * towards).sum(axis=0, dtype=np.float64)
    across = ((1 - labels) * towards).sum(axis=0, dtype=np.float64)
    outside = kernel.sum(dtype=np.float64) - within - 2 * across
    squared = within / (size * (size - 1)) + outside / (rest * (rest - 1)) - 2 * across / (size * rest)
    return Result(p_value(squared), float(squared[0]))


def domain_classifier(
    columns: Matrix, groups: NDArray[np.str_], labels: Labels, folds: int, draw: np.random.Generator
) -> Result:
    """Can a linear classifier tell new clips from old ones, of artists that it was not fitted on?

    The statistic is the area under its ROC curve on held-out groups: 0.5 is chance. The classifier is
    the first Newton step of ridge-penalised logistic regression from zero, which is least squares: so it
    is fitted anew for every permutation at the price of one. With scores that stay fixed while labels
    are permuted, folds that share training data raise two to four times the false alarms.

    Args:
        columns: (N, D) of about unit variance.
        groups: (N,) a group is in one fold.
        labels: (N, 1 + B).
        folds: how many.
        draw: deals groups into folds, without regard to labels.
    """
    names, block = np.unique(groups, return_inverse=True)
    fold = (draw.permutation(len(names)) % folds)[block]
    won = np.zeros(labels.shape[1])
    pairs = np.zeros(labels.shape[1])
    for number in range(folds):
        held = fold == number
        known, mean = columns[~held], columns[~held].mean(axis=0)
        known = known - mean
        inner = known.T @ known + _RIDGE * len(known) * np.eye(known.shape[1], dtype=np.float32)
        weights = np.linalg.solve(inner, known.T @ (labels[~held] - labels[~held].mean(axis=0)))
        fold_won, fold_pairs = _pairs_won((columns[held] - mean) @ weights, labels[held])
        won += fold_won
        pairs += fold_pairs
    areas = won / np.maximum(pairs, 1.0)
    return Result(p_value(areas), float(areas[0]))


def frequencies(present: Matrix, labels: Labels) -> Result:
    """Differences between shares of (N, T) presences, corrected for the number of tags like the distances.

    The statistic is the largest difference of shares in units of its standard error, so that it weighs
    rare and frequent tags alike and knows the size of the window.
    """
    size = labels.sum(axis=0)
    rest = len(labels) - size
    inside = present.T @ labels  # (T, 1 + B)
    total = present.sum(axis=0)[:, None]
    share = total / len(present)
    error = np.sqrt(np.maximum(share * (1 - share), 1e-9) * (1 / size + 1 / rest))
    scores = np.abs(inside / size - (total - inside) / rest) / error
    worst = int(scores[:, 0].argmax())
    each = scores[:, 0].astype(np.float64)
    return Result(p_value(scores.max(axis=0).astype(np.float64)), float(each[worst]), worst, tuple(each.tolist()))


def _cuts(column: Matrix) -> Matrix:
    values = np.unique(column)
    if len(values) <= _CUTS:
        return values
    places = np.arange(1, _CUTS + 1) * len(column) // (_CUTS + 1)
    return np.unique(np.sort(column)[places])


def _pairs_won(scores: Matrix, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pairs (window, reference) that the scores order rightly, and all pairs, for every column."""
    order = scores.argsort(axis=0)
    sorted_labels = np.take_along_axis(labels, order, axis=0).astype(np.float64)
    size = sorted_labels.sum(axis=0)
    ranks = np.arange(1.0, len(labels) + 1) @ sorted_labels
    return ranks - size * (size + 1) / 2, size * (len(labels) - size)
