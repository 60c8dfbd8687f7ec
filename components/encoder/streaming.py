"""Sums over the negatives by blocks of rows: the score matrix is never held whole.

Pass 1 makes the sums. Pass 2, in backward, makes each block's logits again for the gradients. That
is one matrix product more than autograd needs over a stored matrix, and no traffic of (b, B)
matrices through memory: the idea of memory-efficient attention (Rabe and Staats 2021), here with
sums along both sides of the same blocks. Values and gradients are those of ``sums``.

Shapes: b rows (queries), B columns (targets), E embedding dims, r rows of a block.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from components.encoder.negatives import NONE, Negatives

# exp of a float32 must neither overflow (88.7) nor lose digits (-87.3), with room for the sums.
LARGEST_EXPONENT = 80.0


def log_sum_exps(
    query: Tensor, target: Tensor, scale: Tensor, negatives: Negatives, block_rows: int
) -> tuple[Tensor, Tensor]:
    """Return what ``sums.log_sum_exps`` does, holding ``block_rows`` rows of scores at once."""
    by_row, by_column = _LogSumExps.apply(query, target, scale, negatives, block_rows)  # type: ignore[no-untyped-call]
    return by_row, by_column


def softplus_sum(
    query: Tensor, target: Tensor, scale: Tensor, bias: Tensor, negatives: Negatives, block_rows: int
) -> Tensor:
    """Return what ``sums.softplus_sum`` does, holding ``block_rows`` rows of scores at once."""
    total: Tensor = _SoftplusSum.apply(query, target, scale, bias, negatives, block_rows)  # type: ignore[no-untyped-call]
    return total


def _blocks(
    query: Tensor, target: Tensor, scale: Tensor, negatives: Negatives, block_rows: int
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, their logits (r, B) with ``NONE`` for no negative); one buffer serves all blocks."""
    buffer = query.new_empty(min(block_rows, len(query)), len(target))
    scaled = scale * query
    for first in range(0, len(query), block_rows):
        rows = slice(first, min(first + block_rows, len(query)))
        block = torch.mm(scaled[rows], target.T, out=buffer[: rows.stop - first])
        negatives.fill(block, first)
        yield rows, block


def _bounded(query: Tensor, target: Tensor, scale: Tensor) -> bool:
    """Say whether exp of every logit and its sums can be taken as they are.

    No logit exceeds the scale times the longest vectors (unit length, in training), so mostly no
    maximum needs to be sought and one exp serves the row and the column.
    """
    if not len(query) or not len(target):
        return True
    largest = scale.abs() * query.norm(dim=1).max() * target.norm(dim=1).max()
    return float(largest) + math.log(max(len(query), len(target))) <= LARGEST_EXPONENT


class _LogSumExps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, target: Tensor, scale: Tensor, negatives: Negatives, block_rows: int
    ) -> tuple[Tensor, Tensor]:
        ctx.arguments, ctx.bounded = (negatives, block_rows), _bounded(query, target, scale)
        sums = _sums_as_they_are if ctx.bounded else _sums_under_maxima
        by_row, by_column = sums(query, target, _blocks(query, target, scale, negatives, block_rows))
        ctx.save_for_backward(query, target, scale, by_row, by_column)
        return by_row, by_column

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_row: Tensor, g_column: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of logit ij: g_row_i exp(logit - by_row_i) + g_column_j exp(logit - by_column_j)."""
        query, target, scale, by_row, by_column = ctx.saved_tensors
        # Without negatives there is nothing to pass on, and exp(-NONE) is no number.
        g_row = g_row.masked_fill(by_row == NONE, 0.0)[:, None]  # (b, 1)
        g_column = g_column.masked_fill(by_column == NONE, 0.0)  # (B,)
        by_row = by_row.masked_fill(by_row == NONE, 0.0)[:, None]
        by_column = by_column.masked_fill(by_column == NONE, 0.0)
        if ctx.bounded:
            g_row, g_column = g_row * torch.exp(-by_row), g_column * torch.exp(-by_column)
        d_query, d_target = torch.zeros_like(query), torch.zeros_like(target)
        other = query.new_empty(min(ctx.arguments[1], len(query)), len(target))
        for rows, block in _blocks(query, target, scale, *ctx.arguments):
            second = other[: len(block)]
            if ctx.bounded:
                block.exp_().mul_(torch.add(g_row[rows], g_column, out=second))
            else:
                torch.sub(block, by_column, out=second).exp_().mul_(g_column)
                block.sub_(by_row[rows]).exp_().mul_(g_row[rows]).add_(second)
            torch.mm(block, target, out=d_query[rows])
            d_target.addmm_(block.T, query[rows])
        d_scale = (d_query * query).sum()  # sum over ij of the gradient times the cosine
        return d_query.mul_(scale), d_target.mul_(scale), d_scale, None, None


Sums = tuple[Tensor, Tensor]  # (b,) and (B,)


def _sums_as_they_are(query: Tensor, target: Tensor, blocks: Iterator[tuple[slice, Tensor]]) -> Sums:
    by_row, by_column = query.new_zeros(len(query)), query.new_zeros(len(target))
    for rows, block in blocks:
        block.exp_()
        by_row[rows] = block.sum(dim=1)
        by_column += block.sum(dim=0)
    return tuple(torch.where(total > 0, total.log(), NONE) for total in (by_row, by_column))  # type: ignore[return-value]


def _sums_under_maxima(query: Tensor, target: Tensor, blocks: Iterator[tuple[slice, Tensor]]) -> Sums:
    """The same for logits of any size: exp of the distance to the largest of a row, or of a column so far."""
    by_row, total = query.new_zeros(len(query)), query.new_zeros(len(target))
    top = torch.full_like(total, NONE)
    for rows, block in blocks:
        by_row[rows] = block.logsumexp(dim=1)
        higher = torch.maximum(top, block.amax(dim=0))
        total = total * (top - higher).exp() + block.sub_(higher).exp_().sum(dim=0)
        top = higher
    by_column = total.log() + top
    return by_row.clamp(min=NONE), torch.where(top == NONE, NONE, by_column)


class _SoftplusSum(torch.autograd.Function):
    """A pair's gradient, sigmoid(logit + bias), needs no sum first: both come from one pass."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, target: Tensor, scale: Tensor, bias: Tensor, negatives: Negatives, block_rows: int
    ) -> Tensor:
        total, d_bias = query.new_zeros(()), query.new_zeros(())
        d_query, d_target = torch.zeros_like(query), torch.zeros_like(target)
        for rows, block in _blocks(query, target, scale, negatives, block_rows):
            block.add_(bias)
            total += F.softplus(block).sum()
            block.sigmoid_()
            d_bias += block.sum()
            torch.mm(block, target, out=d_query[rows])
            d_target.addmm_(block.T, query[rows])
        d_scale = (d_query * query).sum()
        ctx.save_for_backward(d_query.mul_(scale), d_target.mul_(scale), d_scale, d_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * saved for saved in ctx.saved_tensors), None, None)
