"""From a sequence to one vector. Shapes: B samples, S segments, W width.

A pooling has two parts: ``prepare`` comes before the blocks and may add a token, ``forward`` comes
after them and returns the segments' sequence (B, S, W) and the pooled vector (B, W).
"""

from typing import assert_never

import torch
from torch import Tensor, nn

from components.encoder.params import EncoderSection


class Pooling(nn.Module):
    """What every pooling offers; by itself it adds no token."""

    def prepare(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sequence (B, S', W) and mask (B, S') that the blocks shall see."""
        return x, seen


class MeanPooling(Pooling):
    """The average of the segments."""

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        weight = seen.to(x.dtype)[:, :, None]
        return x, (x * weight).sum(dim=1) / weight.sum(dim=1)


class ClassToken(Pooling):
    """A learnt token in front, which attends to the segments in every block (BERT's [CLS])."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(width))

    def prepare(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        token = self.token.to(x.dtype).expand(len(x), 1, -1)
        return torch.cat([token, x], dim=1), torch.cat([seen.new_ones(len(seen), 1), seen], dim=1)

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, 1:], x[:, 0]


class AttentionPooling(Pooling):
    """A weighted average; the weights are a softmax over a learnt score of each segment."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)  # the softmax would take a bias away again

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.score(x).masked_fill(~seen[:, :, None], float("-inf")).softmax(dim=1)  # (B, S, 1)
        return x, (weight * x).sum(dim=1)


def build_pooling(section: EncoderSection) -> Pooling:
    """Return what ``section.pooling`` asks for."""
    match section.pooling:
        case "mean":
            return MeanPooling()
        case "cls":
            return ClassToken(section.width)
        case "attention":
            return AttentionPooling(section.width)
        case _:
            assert_never(section.pooling)
