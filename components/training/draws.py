"""Random draws addressed by (seed, purpose, step): there is no generator state to save or restore."""

from functools import lru_cache
from typing import Final, Literal

import numpy as np

Purpose = Literal["weights", "order", "modality", "text", "segments", "mixup", "units"]

_STREAM: Final[dict[Purpose, int]] = {
    "weights": 0,
    "order": 1,
    "modality": 2,
    "text": 3,
    "segments": 4,
    "mixup": 5,
    "units": 6,
}


def draws(seed: int, purpose: Purpose, step: int, place: int = 0) -> np.random.Generator:
    """Return the generator of one purpose at one step (counter-based: Philox).

    ``place`` tells the parts of a step's batch apart: the number of its first sample.
    """
    return np.random.Generator(np.random.Philox(key=[seed, _STREAM[purpose]], counter=[0, 0, place, step]))


def torch_seed(seed: int, purpose: Purpose, step: int, place: int = 0) -> int:
    """Return a seed for torch, from the same address."""
    return int(draws(seed, purpose, step, place).integers(2**63))


def batch_rows(seed: int, step: int, clips: int, batch: int) -> np.ndarray:
    """Return the (batch,) clip rows of a step: every epoch is a new order, its short last batch left out."""
    epoch, place = divmod(step, clips // batch)
    return _order(seed, epoch, clips)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, clips: int) -> np.ndarray:
    order = draws(seed, "order", epoch).permutation(clips)
    order.flags.writeable = False
    return order
