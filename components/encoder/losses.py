"""Objectives over a batch of (query, music) embeddings."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.encoder.params import InfoNCE


class SymmetricInfoNCE(nn.Module):
    """Cross entropy of the true partner among the batch, both ways, averaged (ViML, section 3.2).

    The temperature is learnt as the logarithm of its inverse and clamped where it is used, so the
    parameter can come back from the border.
    """

    def __init__(self, section: InfoNCE) -> None:
        super().__init__()
        self.highest = math.log(1.0 / section.lowest_temperature)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / section.initial_temperature)))

    def scale(self) -> Tensor:
        """Return the factor on the cosine: one over the temperature."""
        return self.log_scale.clamp(min=0.0, max=self.highest).exp()

    def forward(self, query: Tensor, music: Tensor, tracks: Tensor) -> Tensor:
        """Return the loss of unit vectors ``query`` and ``music`` (B, E), row i with row i.

        Args:
            query: y_vt.
            music: y_m.
            tracks: (B,) integers; equal numbers are the same track. Another clip of the same track
                is no negative and is left out of the sums.
        """
        logits = self.scale() * query.float() @ music.float().T  # (B, B)
        same = (tracks[:, None] == tracks[None, :]).fill_diagonal_(False)
        logits = logits.masked_fill(same, float("-inf"))
        target = torch.arange(len(logits), device=logits.device)
        return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def build_loss(section: InfoNCE) -> SymmetricInfoNCE:
    """Return the objective of ``encoder.loss``."""
    return SymmetricInfoNCE(section)
