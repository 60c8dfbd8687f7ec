"""Logistic regression for many tags at once, and its calibration, in float64.

N tracks, P features, T tags.
"""

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEPS = 500


def fit_logistic(
    features: Array, labels: NDArray[np.bool_], penalties: Sequence[float]
) -> dict[float, tuple[Array, Array]]:
    """Return weights (T, P) and biases (T,) of one logistic regression per tag, for each penalty.

    Minimises the sum of log losses plus ``penalty / 2`` times the squared weights. Penalties are
    taken from strong to weak, each fit starting where the last one ended.

    The penalty does not see rotations, so the fits run in the at most N dimensions that the tracks
    span, which is exact and much smaller than P.
    """
    squares, left = np.linalg.eigh(features @ features.T)
    used = squares > squares[-1] * 1e-12
    scale, left = np.sqrt(squares[used]), left[:, used]
    spanned, right = left * scale, (left / scale).T @ features  # (N, R), (R, P): features are their product
    truth = labels.astype(np.float64)
    share = (truth.sum(axis=0) + 0.5) / (len(truth) + 1)
    shape = (spanned.shape[1] + 1, truth.shape[1])  # the last row holds the biases

    def loss(flat: Array, penalty: float) -> tuple[float, Array]:
        weights, biases = flat.reshape(shape)[:-1], flat.reshape(shape)[-1]
        logits = spanned @ weights + biases
        off = sigmoid(logits) - truth
        # A hair of penalty on the bias: a fold may hold no example of a tag.
        value = _summed(logits, labels) + 0.5 * penalty * np.sum(weights**2) + 0.5e-3 * np.sum(biases**2)
        slope = np.vstack([spanned.T @ off + penalty * weights, off.sum(axis=0) + 1e-3 * biases])
        return float(value), slope.ravel()

    fits = {}
    at = np.vstack([np.zeros((shape[0] - 1, shape[1])), np.log(share / (1 - share))]).ravel()
    for penalty in sorted(penalties, reverse=True):
        at = _minimise(partial(loss, penalty=penalty), at)
        fits[penalty] = (at.reshape(shape)[:-1].T @ right, at.reshape(shape)[-1].copy())
    return fits


def fit_platt(logits: Array, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and offset that make ``sigmoid(slope * logit + offset)`` a probability (Platt, 1999)."""
    z, y = logits.ravel(), labels.ravel()

    def loss(line: Array) -> tuple[float, Array]:
        said = line[0] * z + line[1]
        off = sigmoid(said) - y
        # Few tracks must not make the tagger surer or shyer than it is: stay near (1, 0).
        away = line - [1.0, 0.0]
        return float(_summed(said, y) + 0.5 * np.sum(away**2)), np.array([np.sum(off * z), np.sum(off)]) + away

    slope, offset = _minimise(loss, np.array([1.0, 0.0]))
    return float(slope), float(offset)


def log_loss(logits: Array, labels: NDArray[np.bool_]) -> float:
    """Return the mean log loss of logits (N, T)."""
    return _summed(logits, labels) / labels.size


def sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + exp(-logits)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


def one_thread() -> AbstractContextManager[object]:
    """Sum in one order inside: the same library and seed give the same tagger, bit for bit."""
    importlib.import_module("scipy.optimize")  # brings a linear algebra library of its own, to be limited too
    limits: AbstractContextManager[object] = importlib.import_module("threadpoolctl").threadpool_limits(1)
    return limits


def _summed(logits: Array, labels: NDArray[np.bool_]) -> float:
    return float(np.sum(np.logaddexp(0.0, np.where(labels, -logits, logits))))


def _minimise(loss: Callable[[Array], tuple[float, Array]], start: Array) -> Array:
    from scipy.optimize import minimize

    limits = {"maxiter": _STEPS, "ftol": 1e-9, "gtol": 1e-4, "maxcor": 20}
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options=limits).x)
