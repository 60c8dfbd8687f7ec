"""Fusion of the query side: the vectors of video and text become one (ViML, section 3.2)."""

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn

from components.encoder.params import EncoderSection, MeanFusion, TransformerFusion
from components.encoder.towers import Block


class FuseByTransformer(nn.Module):
    """Blocks over [query token, one token per modality]; absent modalities are masked out.

    Every modality always has its slot, so a sample whose text was dropped goes through the very
    same arithmetic as a batch that never had text.
    """

    def __init__(self, slots: int, section: EncoderSection, layers: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(section.width))
        self.kind_of_slot = nn.Parameter(0.02 * torch.randn(slots, section.width))
        self.blocks = nn.ModuleList(
            Block(section.width, section.heads, section.feedforward, section.dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(section.width)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:  # (B, M, W), (B, M) -> (B, W)
        tokens = (tokens + self.kind_of_slot).masked_fill(~present[:, :, None], 0.0)
        x = torch.cat([self.query.expand(len(tokens), 1, -1), tokens], dim=1)
        mask = torch.cat([present.new_ones(len(present), 1), present], dim=1)
        for block in self.blocks:
            x = block(x, mask)
        return torch.as_tensor(self.norm(x[:, 0]))


class FuseByMean(nn.Module):
    """The average of the tokens present."""

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:  # (B, M, W), (B, M) -> (B, W)
        weight = present.to(tokens.dtype)[:, :, None]
        return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def build_fusion(section: EncoderSection, modalities: Sequence[str]) -> nn.Module:
    """Return the fusion that ``section.fusion`` asks for, with one slot per query modality."""
    match section.fusion:
        case TransformerFusion(layers=layers):
            return FuseByTransformer(len(modalities), section, layers)
        case MeanFusion():
            return FuseByMean()
        case _:
            assert_never(section.fusion)
