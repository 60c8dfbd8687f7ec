"""A modality's tower: standardise, project, add positions, attend, pool.

Shapes: B samples, S segments, D feature dims, W width.
"""

import torch
from torch import Tensor, nn

from components.encoder.block import Block
from components.encoder.dropout import dropout
from components.encoder.params import EncoderSection
from components.encoder.pooling import build_pooling
from components.encoder.positions import build_positions
from components.encoder.standardise import Standardise


class Tower(nn.Module):
    """Segment features of one modality to a sequence, and to one vector per sample."""

    def __init__(self, dims: int, section: EncoderSection, input_noise: float) -> None:
        super().__init__()
        self.input_dropout, self.input_noise = section.input_dropout, input_noise
        self.standardise = Standardise(dims, section.input_limit)
        self.project = nn.Linear(dims, section.width)
        self.positions = build_positions(section)
        self.pool = build_pooling(section)
        self.blocks = nn.ModuleList(
            Block(section.width, section.heads, section.feedforward, section.dropout) for _ in range(section.layers)
        )
        self.norm = nn.LayerNorm(section.width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, S, D) features and a (B, S) validity mask to a sequence (B, S, W) and a vector (B, W).

        A sample without a valid segment gives zeros, and no gradient flows into it.
        """
        present = mask.any(dim=1)
        # Attention over nothing is undefined: let an absent sample look at its (zeroed) padding.
        seen = mask | ~present[:, None]
        x = self.standardise(x).masked_fill(~mask[:, :, None], 0.0)
        if self.training and self.input_noise > 0:
            x = x + self.input_noise * torch.randn_like(x)
        x = self.project(dropout(x, self.input_dropout, self.training))
        x, seen = self.pool.prepare(self.positions(x), seen)
        for block in self.blocks:
            x = block(x, seen)
        sequence, pooled = self.pool(self.norm(x), seen)
        return sequence, pooled.masked_fill(~present[:, None], 0.0)
