"""A modality's tower: standardise, project, add positions, attend, pool.

Shapes: B samples, S segments, D feature dims, W width, H heads.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.encoder.params import EncoderSection

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


class Block(nn.Module):
    """Pre-norm Transformer block: self-attention over valid positions, then a feed-forward part."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # (B, S, W), (B, S) -> (B, S, W)
        drop = self.dropout if self.training else 0.0
        b, s, w = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(b, s, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :], dropout_p=drop)
        x = x + F.dropout(self.out(mixed.transpose(1, 2).reshape(b, s, w)), drop)
        hidden = F.dropout(F.gelu(self.up(self.norm_feedforward(x))), drop)
        return x + F.dropout(self.down(hidden), drop)


def positions(count: int, width: int, device: torch.device) -> Tensor:
    """Return sinusoidal positions (count, width): any length works, none has to be seen in training."""
    index = torch.arange(count, device=device, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(1e4) / width))
    return torch.cat([torch.sin(index * rates), torch.cos(index * rates)], dim=1)[:, :width]


class Tower(nn.Module):
    """Segment features of one modality to one vector per sample."""

    def __init__(self, dims: int, section: EncoderSection) -> None:
        super().__init__()
        self.input_dropout, self.input_noise = section.input_dropout, section.input_noise
        self.standardise = Standardise(dims, section.input_limit)
        self.project = nn.Linear(dims, section.width)
        self.position_gain = nn.Parameter(torch.tensor(0.1))
        self.blocks = nn.ModuleList(
            Block(section.width, section.heads, section.feedforward, section.dropout) for _ in range(section.layers)
        )
        self.norm = nn.LayerNorm(section.width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, S, D) features and a (B, S) validity mask to (B, W).

        A sample without a valid segment gives zeros, and no gradient flows into it.
        """
        present = mask.any(dim=1)
        # Attention over nothing is undefined: let an absent sample look at its (zeroed) padding.
        seen = mask | ~present[:, None]
        x = self.standardise(x).masked_fill(~mask[:, :, None], 0.0)
        if self.training and self.input_noise > 0:
            x = x + self.input_noise * torch.randn_like(x)
        x = self.project(F.dropout(x, self.input_dropout, self.training))
        x = x + self.position_gain * positions(x.shape[1], x.shape[2], x.device)
        for block in self.blocks:
            x = block(x, seen)
        weight = seen.to(x.dtype)[:, :, None]
        pooled: Tensor = (self.norm(x) * weight).sum(dim=1) / weight.sum(dim=1)
        return pooled.masked_fill(~present[:, None], 0.0)
