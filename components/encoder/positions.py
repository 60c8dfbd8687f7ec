"""How a tower knows the order of segments. Shapes: B samples, S segments, W width."""

import math
from typing import assert_never

import torch
from torch import Tensor, nn

from components.encoder.params import EncoderSection, LearnedPositions, NoPositions, SinusoidalPositions

INITIAL_GAIN = 0.1  # of positions against content


class Sinusoidal(nn.Module):
    """Sines and cosines of falling frequency, scaled by one learnt gain (Vaswani et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(INITIAL_GAIN))

    def forward(self, x: Tensor) -> Tensor:  # (B, S, W) -> (B, S, W)
        count, width = x.shape[1:]
        index = torch.arange(count, device=x.device, dtype=torch.float32)[:, None]
        rates = torch.exp(torch.arange(0, width, 2, device=x.device, dtype=torch.float32) * (-math.log(1e4) / width))
        waves = torch.cat([torch.sin(index * rates), torch.cos(index * rates)], dim=1)[:, :width]  # (S, W)
        return torch.as_tensor(x + self.gain * waves)


class Learned(nn.Module):
    """One learnt vector per place."""

    def __init__(self, longest: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(INITIAL_GAIN * torch.randn(longest, width))

    def forward(self, x: Tensor) -> Tensor:  # (B, S, W) -> (B, S, W)
        if x.shape[1] > len(self.table):
            raise ValueError(
                f"a sequence has {x.shape[1]} segments, encoder.positions.longest is {len(self.table)}; "
                "raise it and train again, or choose sinusoidal positions"
            )
        return x + self.table[: x.shape[1]]


def build_positions(section: EncoderSection) -> nn.Module:
    """Return what ``section.positions`` asks for."""
    match section.positions:
        case SinusoidalPositions():
            return Sinusoidal()
        case LearnedPositions(longest=longest):
            return Learned(longest, section.width)
        case NoPositions():
            return nn.Identity()
        case _:
            assert_never(section.positions)
