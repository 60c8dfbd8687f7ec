"""Regularised canonical correlation analysis of two sets of features, in closed form.

Each side is standardised and whitened with a ridge; the singular vectors of what the whitened sides
have in common are the canonical directions (Hotelling 1936; ridge: Vinod 1976). Directions count by a
power of their correlation, which damps those that hold by accident (Gong et al., IJCV 2014).

Shapes: N rows, P and Q feature dims, C canonical directions.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]

# A feature whose spread is below this share of its size is constant up to float16 rounding.
_CONSTANT_BELOW = 1e-3
# An axis with less than this share of the largest variance is rounding, and is left out.
_EMPTY_BELOW = 1e-10


@dataclass(frozen=True)
class Axes:
    """One side: how to standardise it, and its principal axes.

    Attributes:
        mean: (P,) and scale: (P,), 1 / standard deviation, 0 where a feature is constant.
        axes: (P, A) unit vectors of the standardised rows.
        variance: (A,) variance along each axis, falling.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    axes: NDArray[np.float64]
    variance: NDArray[np.float64]

    def standardise(self, rows: Rows) -> NDArray[np.float64]:
        """Return (N, P) rows with the training rows' mean 0 and variance 1."""
        return (np.asarray(rows, np.float64) - self.mean) * self.scale

    def whitener(self, ridge: float) -> NDArray[np.float64]:
        """Return (P, A): what makes the regularised covariance the identity."""
        return self.axes / np.sqrt(self.variance + ridge)


def fit_axes(rows: Rows) -> Axes:
    """Return the principal axes of rows (N, P), from the smaller of covariance (P, P) and Gram matrix (N, N).

    Raises:
        ValueError: fewer than two rows, or a number that is not finite.
    """
    values = np.asarray(rows, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"CCA needs at least two rows of finite features; got {values.shape}, finite or not")
    mean, std = values.mean(axis=0), values.std(axis=0)
    varies = std > _CONSTANT_BELOW * np.maximum(np.abs(mean), 1e-6)
    scale = np.where(varies, 1.0 / np.maximum(std, 1e-12), 0.0)
    centred = ((values - mean) * scale)[:, varies]
    n, p = centred.shape
    if p == 0:
        return Axes(mean, scale, np.zeros((len(mean), 0)), np.zeros(0))
    if p <= n:
        variance, found = np.linalg.eigh(centred.T @ centred / n)
    else:
        variance, left = np.linalg.eigh(centred @ centred.T / n)
        found = centred.T @ left / np.sqrt(np.maximum(variance * n, 1e-300))
    keep = variance > _EMPTY_BELOW * float(variance[-1])
    axes = np.zeros((len(mean), int(keep.sum())))
    axes[varies] = found[:, keep][:, ::-1]
    return Axes(mean, scale, axes, variance[keep][::-1])


@dataclass(frozen=True)
class CCA:
    """Canonical directions of a query side and a music side.

    Attributes:
        query: and music: the sides.
        query_weights: (P, C) and music_weights: (Q, C), on standardised rows.
        correlations: (C,) of the whitened sides, falling; with a ridge, somewhat below the plain ones.
    """

    query: Axes
    music: Axes
    query_weights: NDArray[np.float64]
    music_weights: NDArray[np.float64]
    correlations: NDArray[np.float64]

    def scores(self, query: Rows, music: Rows, power: float) -> NDArray[np.float32]:
        """Return the cosine (N, G) of (N, P) queries and (G, Q) music; directions count by correlation^power."""
        weight = self.correlations**power
        left = self.query.standardise(query) @ self.query_weights * weight
        right = self.music.standardise(music) @ self.music_weights * weight
        return np.asarray(unit(left) @ unit(right).T, np.float32)

    def first(self, directions: int) -> "CCA":
        """Return the same with only the strongest so many directions."""
        return replace(
            self,
            query_weights=self.query_weights[:, :directions],
            music_weights=self.music_weights[:, :directions],
            correlations=self.correlations[:directions],
        )


def fit_cca(query: Rows, music: Rows, query_ridge: float, music_ridge: float, directions: int) -> CCA:
    """Fit on paired rows (N, P) and (N, Q). Ridges are in variances of one standardised feature.

    Raises:
        ValueError: the sides differ in rows, a side has fewer than two rows, or numbers are not finite.
    """
    if len(query) != len(music):
        raise ValueError(f"CCA needs pairs: {len(query)} query rows, {len(music)} music rows")
    left, right = fit_axes(query), fit_axes(music)
    return solve(left, right, shared(left, right, query, music), query_ridge, music_ridge, directions)


def shared(left: Axes, right: Axes, query: Rows, music: Rows) -> NDArray[np.float64]:
    """Return the covariance (A, B) of the two sides along their axes."""
    return (left.standardise(query) @ left.axes).T @ (right.standardise(music) @ right.axes) / len(query)


def solve(
    left: Axes, right: Axes, covariance: NDArray[np.float64], query_ridge: float, music_ridge: float, directions: int
) -> CCA:
    """Return the CCA of two sides whose axes are known: cheap enough to try many ridges."""
    by_left, by_right = np.sqrt(left.variance + query_ridge), np.sqrt(right.variance + music_ridge)
    u, correlations, vt = np.linalg.svd(covariance / by_left[:, None] / by_right, full_matrices=False)
    kept = min(directions, len(correlations))
    return CCA(
        left,
        right,
        left.whitener(query_ridge) @ u[:, :kept],
        right.whitener(music_ridge) @ vt[:kept].T,
        np.clip(correlations[:kept], 0.0, 1.0),
    )


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows of length 1; a row of zeros stays as it is."""
    scaled: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled
