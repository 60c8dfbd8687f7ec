"""Logistic regression for many tags at once, and its calibration, in float64 on one thread.

N tracks, P features, T tags.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEPS = 300


def fit_logistic(features: Array, labels: NDArray[np.bool_], l2: float) -> tuple[Array, Array]:
    """Return weights (T, P) and biases (T,) of one penalised logistic regression per tag.

    Minimises the sum of log losses plus ``l2 / 2`` times the squared weights.

    The penalty does not see rotations, so the fit runs in the at most N dimensions that the tracks
    span, which is exact and much smaller than P.
    """
    import torch

    with one_thread():
        x = torch.from_numpy(features)
        y = torch.from_numpy(labels.astype(np.float64))
        left, scale, right = torch.linalg.svd(x, full_matrices=False)
        spanned = left * scale  # (N, R)
        weights = torch.zeros(y.shape[1], spanned.shape[1], dtype=torch.float64, requires_grad=True)
        share = ((y.sum(0) + 0.5) / (len(y) + 1)).clamp(1e-3, 1 - 1e-3)
        biases = torch.logit(share).clone().requires_grad_(True)

        def loss() -> Any:
            logits = spanned @ weights.T + biases
            data = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
            # A hair of penalty on the bias: a fold may hold no example of a tag.
            return data + 0.5 * l2 * weights.square().sum() + 1e-3 * biases.square().sum()

        _minimise(loss, [weights, biases])
        return (weights.detach() @ right).numpy(), biases.detach().numpy()


def fit_platt(logits: Array, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and offset that make ``sigmoid(slope * logit + offset)`` a probability (Platt, 1999)."""
    import torch

    with one_thread():
        z = torch.from_numpy(np.ascontiguousarray(logits.ravel()))
        y = torch.from_numpy(labels.ravel().astype(np.float64))
        line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)

        def loss() -> Any:
            data = torch.nn.functional.binary_cross_entropy_with_logits(line[0] * z + line[1], y, reduction="sum")
            # Few tracks must not make the tagger surer or shyer than it is: stay near (1, 0).
            return data + 0.5 * ((line[0] - 1) ** 2 + line[1] ** 2)

        _minimise(loss, [line])
        slope, offset = line.detach().tolist()
        return float(slope), float(offset)


def log_loss(logits: Array, labels: NDArray[np.bool_]) -> float:
    """Return the mean log loss of logits (N, T)."""
    return float(np.mean(np.logaddexp(0.0, np.where(labels, -logits, logits))))


def sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + exp(-logits)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Sum in one order: the same library and seed give the same tagger, bit for bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _minimise(loss: Callable[[], Any], parameters: list[Any]) -> None:
    import torch

    optimiser: Any = torch.optim.LBFGS(
        parameters, max_iter=_STEPS, tolerance_grad=1e-4, tolerance_change=1e-6, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
