"""Inputs brought to zero mean and unit spread. Shapes: D feature dims."""

import torch
from torch import Tensor, nn

# A feature whose spread is below this share of its size is constant up to float16 rounding.
CONSTANT_BELOW = 1e-3


class Standardise(nn.Module):
    """Centre and scale each feature by statistics of the training clips; constants become zero."""

    mean: Tensor  # (D,)
    scale: Tensor  # (D,), 1 / standard deviation, 0 where the feature is constant

    def __init__(self, dims: int, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("scale", torch.ones(dims))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """Take mean and standard deviation per feature, each (D,)."""
        varies = std > CONSTANT_BELOW * mean.abs().clamp(min=1e-6)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, 1.0 / std.clamp(min=1e-12), 0.0))

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., D)
        return ((x - self.mean) * self.scale).clamp(-self.limit, self.limit)
