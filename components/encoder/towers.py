"""A modality's tower: standardise, project, add positions, attend, pool.

Shapes: B samples, S segments, S' what the blocks see, D feature dims, W width, H heads.
"""

import math
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.encoder.params import EncoderSection, LearnedPositions, NoPositions, SinusoidalPositions

Features = tuple[Tensor, Tensor]  # (B, S, D) values, (B, S) True where a segment is valid


def mean_of_valid(values: Tensor, valid: Tensor) -> Tensor:  # (B, S, D), (B, S) -> (B, D)
    """Return the mean over valid places, zeros without any; what stands in the others does not matter."""
    count = valid.to(values.dtype).sum(dim=1).clamp(min=1.0)[:, None]  # (B, 1)
    return values.masked_fill(~valid[:, :, None], 0.0).sum(dim=1) / count


# -- inputs ----------------------------------------------------------------------------------------

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


LEVELS = 256  # values of a byte


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Return ``x`` with units dropped at random and the rest scaled up, as in training; else ``x``.

    Cheap on a processor: a fair coin per unit from the library takes 17 % of a training step there; eight
    units from each 64-bit random number take a quarter of that. The probability is rounded to a multiple of 1/256.
    """
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


# -- positions -------------------------------------------------------------------------------------

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


# -- attention -------------------------------------------------------------------------------------


class Block(nn.Module):
    """Pre-norm Transformer block: self-attention over valid positions, then a feed-forward part."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.drop = heads, Dropout(dropout)
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # (B, S', W), (B, S') -> (B, S', W)
        b, s, w = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(b, s, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, S', W / H) each
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])  # (B, H, S', W / H)
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(b, s, w)))
        return torch.as_tensor(x + self.drop(self.down(self.drop(F.gelu(self.up(self.norm_feedforward(x)))))))


# -- pooling ---------------------------------------------------------------------------------------


class Pooling(nn.Module):
    """From a sequence to one vector; what every pooling offers.

    ``prepare`` comes before the blocks and may add a token (S' segments), by itself it adds none; ``forward``
    comes after them and returns the segments' sequence (B, S, W) and the pooled vector (B, W).
    """

    def prepare(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sequence (B, S', W) and mask (B, S') that the blocks shall see."""
        return x, seen


class MeanPooling(Pooling):
    """The average of the segments."""

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        return x, mean_of_valid(x, seen)


class ClassToken(Pooling):
    """A learnt token in front, which attends to the segments in every block (BERT's [CLS])."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(width))

    def prepare(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        token = self.token.to(x.dtype).expand(len(x), 1, -1)  # (B, 1, W)
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


# -- the tower -------------------------------------------------------------------------------------


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
        present = mask.any(dim=1)  # (B,)
        # Attention over nothing is undefined: let an absent sample look at its (zeroed) padding.
        seen = mask | ~present[:, None]  # (B, S)
        x = self.standardise(x).masked_fill(~mask[:, :, None], 0.0)  # (B, S, D)
        if self.training and self.input_noise > 0:
            x = x + self.input_noise * torch.randn_like(x)
        x = self.project(dropout(x, self.input_dropout, self.training))  # (B, S, W)
        x, seen = self.pool.prepare(self.positions(x), seen)  # (B, S', W), (B, S')
        for block in self.blocks:
            x = block(x, seen)
        sequence, pooled = self.pool(self.norm(x), seen)  # (B, S, W), (B, W)
        return sequence, pooled.masked_fill(~present[:, None], 0.0)
