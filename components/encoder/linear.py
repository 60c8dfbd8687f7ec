"""Linear paths beside the towers: canonical directions of video and music, and of text and music.

Canonical correlation is least squares, and least squares does with fewer noisy pairs than a contrastive
objective; the towers find what is not linear. Both embeddings stand side by side in one vector, so
their cosines add with fixed weights and a music index holds one vector per track still (adding scores
of unlike systems: Kittler et al., PAMI 1998; a wide linear part beside a deep one: Cheng et al., 2016).

Each query modality has directions of its own: what music has in common with pictures is not what it
has in common with words, and music is of unit length in either, so the modality that a query
lacks cannot disturb the order. Nothing here is trained by steps: the weights are buffers.

Shapes: B samples, S segments, D feature dims, C directions of a modality, E dims of the towers' embedding.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.encoder.cca import CCA
from components.encoder.towers import Features, mean_of_valid
from components.modalities import MUSIC, QUERY, Modality


class Directions(nn.Module):
    """A linear map of a clip's mean features to unit length; zeros until it is set, and for a clip without any."""

    mean: Tensor  # (D,)
    weight: Tensor  # (C, D)

    def __init__(self, dims: int, directions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("weight", torch.zeros(directions, dims))

    def set(self, mean: Tensor, weight: Tensor) -> None:
        """Take the mean (D,) and up to C directions, (any number, D); those that lack stay zero."""
        self.mean.copy_(mean)
        self.weight.zero_()
        self.weight[: len(weight)].copy_(weight)

    def forward(self, features: Features) -> Tensor:  # -> (B, C)
        values, mask = features
        along = F.linear(mean_of_valid(values, mask) - self.mean, self.weight).masked_fill(
            ~mask.any(dim=1)[:, None], 0.0
        )
        return F.normalize(along, dim=1)


class LinearPaths(nn.Module):
    """The canonical directions of every query modality with music; queries and music in one space (B, 2 C)."""

    def __init__(self, dims: Mapping[Modality, int], directions: int, share: float) -> None:
        super().__init__()
        self.directions, self.share = directions, share
        self.of_query = nn.ModuleDict({m: Directions(dims[m], directions) for m in QUERY})
        self.of_music = nn.ModuleDict({m: Directions(dims[MUSIC], directions) for m in QUERY})

    def set(self, modality: Modality, fitted: CCA, power: float) -> None:
        """Take the directions of a query modality; they count by their correlation to ``power``."""
        sides = (
            (self.of_query, fitted.query, fitted.query_weights),
            (self.of_music, fitted.music, fitted.music_weights),
        )
        for paths, axes, weights in sides:
            scaled = axes.scale[:, None] * weights * fitted.correlations**power  # (D, C)
            path = paths[modality]
            assert isinstance(path, Directions)
            path.set(torch.from_numpy(axes.mean).float(), torch.from_numpy(scaled.T.copy()).float())

    def beside(self, towers: Tensor, given: Mapping[Modality, Features], music: bool) -> Tensor:
        """Return the towers' unit vectors (B, E) and the linear paths' as one of unit length (B, E + 2 C).

        Args:
            towers: their embeddings.
            given: features of the query modalities, or of music.
            music: whether the features are of music.
        """
        parts = [self._part(m, given, music, towers) for m in QUERY]
        straight = F.normalize(torch.cat(parts, dim=1), dim=1)  # (B, 2 C)
        both = torch.cat([math.sqrt(1.0 - self.share) * towers, math.sqrt(self.share) * straight], dim=1)
        return F.normalize(both, dim=1)

    def _part(self, modality: Modality, given: Mapping[Modality, Features], music: bool, like: Tensor) -> Tensor:
        if music:
            return torch.as_tensor(self.of_music[modality](given[MUSIC]))
        if modality not in given:
            return like.new_zeros(len(like), self.directions)
        return torch.as_tensor(self.of_query[modality](given[modality]))
