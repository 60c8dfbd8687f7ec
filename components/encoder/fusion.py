"""Fusion of the query side: what the towers say of video and text becomes one vector (ViML, section 3.2).

Shapes: B samples, M query modalities, S_m positions of a modality, W width.

Every modality always has its slot, so a sample whose text was dropped goes through the very same
arithmetic as a batch that never had text: the slot of an absent modality is zeros behind a mask.
"""

from typing import NamedTuple, assert_never

import torch
from torch import Tensor, nn

from components.encoder.params import (
    ConcatTransformerFusion,
    CrossAttentionFusion,
    EncoderSection,
    GatedFusion,
    MeanFusion,
    PooledTransformerFusion,
)
from components.encoder.towers import Block, Dropout, mean_of_valid


class Slot(NamedTuple):
    """One modality's output.

    Attributes:
        sequence: (B, S_m, W).
        mask: (B, S_m) True where a position is valid.
        pooled: (B, W), zeros where the modality is absent.
        present: (B,) True where it is there.
    """

    sequence: Tensor
    mask: Tensor
    pooled: Tensor
    present: Tensor


def absent_like(other: Slot) -> Slot:
    """Return the slot of a modality that no sample of the batch has."""
    return Slot(
        torch.zeros_like(other.sequence[:, :1]),
        torch.zeros_like(other.mask[:, :1]),
        torch.zeros_like(other.pooled),
        torch.zeros_like(other.present),
    )


class FuseByTransformer(nn.Module):
    """Blocks over a query token and the modalities' positions; the query token's output is the answer.

    ``whole`` sequences, or one pooled vector per modality.
    """

    def __init__(self, slots: int, section: EncoderSection, layers: int, whole: bool) -> None:
        super().__init__()
        self.whole = whole
        self.query = nn.Parameter(torch.zeros(section.width))
        self.kind_of_slot = nn.Parameter(0.02 * torch.randn(slots, section.width))
        self.blocks = nn.ModuleList(
            Block(section.width, section.heads, section.feedforward, section.dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(section.width)

    def forward(self, slots: list[Slot]) -> Tensor:  # -> (B, W)
        tokens = [slot.sequence if self.whole else slot.pooled[:, None] for slot in slots]
        masks = [slot.mask if self.whole else slot.present[:, None] for slot in slots]
        tokens = [
            (x + kind).masked_fill(~mask[:, :, None], 0.0)
            for x, kind, mask in zip(tokens, self.kind_of_slot, masks, strict=True)
        ]
        x = torch.cat([self.query.expand(len(tokens[0]), 1, -1), *tokens], dim=1)
        mask = torch.cat([masks[0].new_ones(len(x), 1), *masks], dim=1)
        for block in self.blocks:
            x = block(x, mask)
        return torch.as_tensor(self.norm(x[:, 0]))


class CrossRound(nn.Module):
    """A modality's positions look at those of the others; then a feed-forward part."""

    def __init__(self, section: EncoderSection) -> None:
        super().__init__()
        width = section.width
        self.norm_here, self.norm_there, self.norm_feedforward = (nn.LayerNorm(width) for _ in range(3))
        self.attend = nn.MultiheadAttention(width, section.heads, batch_first=True)
        self.feedforward = nn.Sequential(
            nn.Linear(width, section.feedforward), nn.GELU(), nn.Linear(section.feedforward, width)
        )
        self.drop = Dropout(section.dropout)

    def forward(self, here: Tensor, there: Tensor, mask: Tensor) -> Tensor:  # (B, S, W), (B, T, W), (B, T)
        nothing = ~mask.any(dim=1)
        # Attention over nothing is undefined: look at padding, and leave out what comes of it.
        hidden = ~(mask | nothing[:, None])
        other = self.norm_there(there)
        seen, _ = self.attend(self.norm_here(here), other, other, key_padding_mask=hidden, need_weights=False)
        here = here + self.drop(seen).masked_fill(nothing[:, None, None], 0.0)
        return torch.as_tensor(here + self.drop(self.feedforward(self.norm_feedforward(here))))


class FuseByCrossAttention(nn.Module):
    """Rounds in which each modality attends to the others; then the average of what is present."""

    def __init__(self, slots: int, section: EncoderSection, layers: int) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(nn.ModuleList(CrossRound(section) for _ in range(slots)) for _ in range(layers))
        self.norm = nn.LayerNorm(section.width)

    def forward(self, slots: list[Slot]) -> Tensor:  # -> (B, W)
        masks = [slot.mask for slot in slots]
        streams = [slot.sequence.masked_fill(~slot.mask[:, :, None], 0.0) for slot in slots]
        for one_round in self.rounds:
            assert isinstance(one_round, nn.ModuleList)
            streams = [
                attend(
                    streams[at],
                    torch.cat([x for other, x in enumerate(streams) if other != at], dim=1),
                    torch.cat([m for other, m in enumerate(masks) if other != at], dim=1),
                )
                for at, attend in enumerate(one_round)
            ]
        pooled = [mean_of_valid(self.norm(x), mask) for x, mask in zip(streams, masks, strict=True)]
        return mean_of_valid(torch.stack(pooled, dim=1), torch.stack([slot.present for slot in slots], dim=1))


class FuseByGates(nn.Module):
    """The sum of the modalities present, each unit scaled between 0 and 1 by a gate that sees its modality.

    Evidence adds: were video and text independent given the music, log-likelihoods would sum, and
    a side that says little would weigh little.
    """

    def __init__(self, slots: int, section: EncoderSection) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(section.width, section.width) for _ in range(slots))
        self.values = nn.ModuleList(nn.Linear(section.width, section.width) for _ in range(slots))

    def forward(self, slots: list[Slot]) -> Tensor:  # -> (B, W)
        parts = [
            (torch.sigmoid(gate(slot.pooled)) * value(slot.pooled)).masked_fill(~slot.present[:, None], 0.0)
            for gate, value, slot in zip(self.gates, self.values, slots, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)


class FuseByMean(nn.Module):
    """The average of the modalities present."""

    def forward(self, slots: list[Slot]) -> Tensor:  # -> (B, W)
        pooled = torch.stack([slot.pooled for slot in slots], dim=1)  # (B, M, W)
        return mean_of_valid(pooled, torch.stack([slot.present for slot in slots], dim=1))


def build_fusion(section: EncoderSection, slots: int) -> nn.Module:
    """Return the fusion that ``section.fusion`` asks for, with one slot per query modality."""
    match section.fusion:
        case ConcatTransformerFusion(layers=layers):
            return FuseByTransformer(slots, section, layers, whole=True)
        case PooledTransformerFusion(layers=layers):
            return FuseByTransformer(slots, section, layers, whole=False)
        case CrossAttentionFusion(layers=layers):
            return FuseByCrossAttention(slots, section, layers)
        case GatedFusion():
            return FuseByGates(slots, section)
        case MeanFusion():
            return FuseByMean()
        case _:
            assert_never(section.fusion)
