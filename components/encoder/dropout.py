"""Dropout, cheap on a processor.

A fair coin per unit from the library takes 17 % of a training step on a CPU; eight units from each
64-bit random number take a quarter of that. The probability is rounded to a multiple of 1/256.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256  # values of a byte


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Return ``x`` with units dropped at random and the rest scaled up, as in training; else ``x``."""
    dropped = round(probability * LEVELS)
    if not training or not dropped:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability)
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    bytes_ = words.view(torch.uint8)[: x.numel()].view(x.shape)
    # Compared straight into floats: by way of a mask of bools it takes a third longer.
    kept = torch.ge(bytes_, dropped, out=torch.empty_like(x, requires_grad=False))
    return x * kept.mul_(LEVELS / (LEVELS - dropped))


class Dropout(nn.Module):
    """``dropout`` as a module."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.probability, self.training)
