"""Objectives over pairs of embeddings: symmetric InfoNCE and the sigmoid loss.

Each process scores its own queries against the targets of all processes, so the processes' blocks
of rows make up the one global score matrix, each cell once. What a loss needs of that matrix are sums
over the negatives, along its rows and its columns: with the matrix in memory, or by blocks of rows.

In the order of this file: what is compared; embeddings of all processes; which cells are negatives; sums over
them; the losses.

Shapes: P processes, b samples of this process, B samples of all processes (both without those that lack a
side, or, with ``fixed_shapes``, all), r rows of a block, E embedding dims, D feature dims.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, assert_never

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from components.encoder.params import TERMS, InfoNCE, LossSection, MaskSection, Sigmoid, Term

# -- what is compared ------------------------------------------------------------------------------


class Pair(NamedTuple):
    """Both sides of one term of the objective; row i belongs to row i.

    Attributes:
        query: (b, E), unit length.
        target: (b, E), unit length.
        present: (b,) True where a sample has both sides; the others count neither as query nor as target.
    """

    query: Tensor
    target: Tensor
    present: Tensor


class Identities(NamedTuple):
    """What may make another sample of the batch a false negative.

    Attributes:
        tracks: (b,) integers; equal numbers are the same track.
        artists: (b,) integers; equal numbers are the same artist.
        sound: (b, D) standardised mean music features, for near duplicates; None where they are not asked for.
    """

    tracks: Tensor
    artists: Tensor
    sound: Tensor | None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Identities":
        """Return them with every tensor changed."""
        sound = None if self.sound is None else change(self.sound)
        return Identities(change(self.tracks), change(self.artists), sound)


# -- embeddings of all processes, with gradient ----------------------------------------------------


def world() -> int:
    """Return the number of processes; one where no process group is started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(x: Tensor) -> Tensor:  # (...) -> (P, ...)
    """Return ``x`` of every process, in the order of their ranks.

    Every process must call this, with equal shapes. The gradient of ``x`` is the sum of what all
    processes' losses say about it, so every process must also call backward.
    """
    if world() == 1:
        return x[None]
    if x.numel() == 0:  # nothing to send
        return x.expand(world(), *x.shape)
    gathered: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.new_empty(world(), *x.shape)
        dist.all_gather_single(out.view(world() * len(x), *x.shape[1:]), x.contiguous())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # (P, ...) -> (...)
        out = torch.empty_like(gradient[0])
        dist.reduce_scatter_single(out, gradient.contiguous().flatten(0, 1))
        return out


# -- which cells of the score matrix are negatives -------------------------------------------------

# What stands in the place of a logit that is no negative: exp of it is 0, and unlike minus
# infinity it can be subtracted from itself.
NONE = -1e30

# Cosines of equal vectors fall short of 1 by rounding.
ROUNDING = 1e-6


class Negatives:
    """Everyone but the sample itself and its false negatives.

    Args:
        mask: which false negatives to leave out.
        columns: identities of the B columns; the rows are a run of them.
        own: column of the first row; row i's own column is ``own + i``.
        present: (B,) True for samples that take part; None for all. With it nothing is looked up in the
            data that would decide shapes.
    """

    def __init__(self, mask: MaskSection, columns: Identities, own: int, present: Tensor | None = None) -> None:
        self.own, self.present = own, present
        wanted = ((mask.same_track, columns.tracks), (mask.same_artist, columns.artists))
        numbered = [_renumber(ids) if present is None else ids for asked, ids in wanted if asked]
        self.groups = [ids for ids in numbered if ids is not None]  # (B,) each
        self.sound, self.threshold = None, 0.0
        if mask.near_duplicates is not None:
            assert columns.sound is not None, "encoder.loss.mask.near_duplicates needs Identities.sound"
            self.sound = F.normalize(columns.sound.float(), dim=1)  # (B, D)
            self.threshold = mask.near_duplicates - ROUNDING

    def fill(self, block: Tensor, first: int) -> None:
        """Put ``NONE`` into ``block`` (r, B), rows ``first`` to ``first + r``, wherever there is no negative."""
        start = self.own + first
        rows = slice(start, start + len(block))
        block.diagonal(start).fill_(NONE)
        if self.present is not None:
            block.masked_fill_(~(self.present[rows, None] & self.present), NONE)
        for ids in self.groups:
            block.masked_fill_(ids[rows, None] == ids, NONE)
        if self.sound is not None:
            block.masked_fill_(self.sound[rows] @ self.sound.T >= self.threshold, NONE)


def _renumber(ids: Tensor) -> Tensor | None:
    """Return small numbers for ``ids`` (B,), which compare faster; None if all differ and no comparison is needed."""
    distinct, numbers = torch.unique(ids, return_inverse=True)
    return None if len(distinct) == len(ids) else numbers.int()


# -- sums over the negatives -----------------------------------------------------------------------


def log_sum_exps(
    query: Tensor, target: Tensor, scale: Tensor, negatives: Negatives, block_rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return log sum exp of the negatives' logits for each row (b,) and each column (B,); ``NONE`` without any.

    Args:
        query: (b, E).
        target: (B, E).
        scale: factor on the cosine, scalar.
        negatives: of ``query`` among ``target``.
        block_rows: rows of the score matrix (b, B) held at once; None holds it whole.
    """
    if block_rows is not None:
        by_row, by_column = _LogSumExps.apply(query, target, scale, negatives, block_rows)  # type: ignore[no-untyped-call]
        return by_row, by_column
    logits = scale * query @ target.T  # (b, B)
    negatives.fill(logits, 0)
    return logits.logsumexp(dim=1), logits.logsumexp(dim=0)


def softplus_sum(
    query: Tensor, target: Tensor, scale: Tensor, bias: Tensor, negatives: Negatives, block_rows: int | None = None
) -> Tensor:
    """Return the sum of softplus(logit + bias) over all negatives; arguments as above."""
    if block_rows is not None:
        total: Tensor = _SoftplusSum.apply(query, target, scale, bias, negatives, block_rows)  # type: ignore[no-untyped-call]
        return total
    logits = scale * query @ target.T + bias  # (b, B)
    negatives.fill(logits, 0)
    return F.softplus(logits).sum()


# By blocks of rows, the score matrix is never held whole. Pass 1 makes the sums. Pass 2, in backward, makes each
# block's logits again for the gradients. That is one matrix product more than autograd needs over a stored
# matrix, and no traffic of (b, B) matrices through memory: the idea of memory-efficient attention (Rabe and
# Staats 2021), here with sums along both sides of the same blocks. Values and gradients are those of the stored
# matrix.

# exp of a float32 must neither overflow (88.7) nor lose digits (-87.3), with room for the sums.
LARGEST_EXPONENT = 80.0

Blocks = Iterator[tuple[slice, Tensor]]  # rows, their logits (r, B) with ``NONE`` for no negative


def _blocks(query: Tensor, target: Tensor, scale: Tensor, negatives: Negatives, block_rows: int) -> Blocks:
    """Yield the blocks in order; one buffer serves all."""
    buffer = query.new_empty(min(block_rows, len(query)), len(target))
    scaled = scale * query  # (b, E)
    for first in range(0, len(query), block_rows):
        rows = slice(first, min(first + block_rows, len(query)))
        block = torch.mm(scaled[rows], target.T, out=buffer[: rows.stop - first])  # (r, B)
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


def _sums_as_they_are(query: Tensor, target: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:  # -> (b,), (B,)
    by_row, by_column = query.new_zeros(len(query)), query.new_zeros(len(target))
    for rows, block in blocks:
        block.exp_()
        by_row[rows] = block.sum(dim=1)
        by_column += block.sum(dim=0)
    return tuple(torch.where(total > 0, total.log(), NONE) for total in (by_row, by_column))  # type: ignore[return-value]


def _sums_under_maxima(query: Tensor, target: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:  # -> (b,), (B,)
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


# -- the losses ------------------------------------------------------------------------------------


class Scored(NamedTuple):
    """One term's samples.

    Attributes:
        query: (b, E) of this process.
        targets: (B, E) of all processes.
        own: the columns of this process's b samples.
        negatives: of the queries among the targets.
        counted: (b,) True where a sample has both sides.
    """

    query: Tensor
    targets: Tensor
    own: slice
    negatives: Negatives
    counted: Tensor


class Objective(nn.Module):
    """A weighted sum of terms with one learnt temperature, kept as the logarithm of its inverse.

    Attributes:
        fixed_shapes: score every sample, and leave out those that lack a side by masks. Without it they are cut
            away first: less work, but how much is known only by looking at the data, for which a GPU stops, and
            a compiled objective is one for each shape.
    """

    weighing: Tensor  # (terms,), on the device

    def __init__(self, section: InfoNCE | Sigmoid) -> None:
        super().__init__()
        self.weights = {term: section.terms[term] for term in TERMS if section.terms[term] > 0}
        self.mask, self.stream_rows, self.fixed_shapes = section.mask, section.stream_rows, False
        self.register_buffer("weighing", torch.tensor(list(self.weights.values())), persistent=False)
        self.highest = math.log(1.0 / section.lowest_temperature)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / section.initial_temperature)))

    def scale(self) -> Tensor:
        """Return the factor on the cosine: one over the temperature."""
        return self.log_scale.clamp(min=0.0, max=self.highest).exp()

    @abstractmethod
    def summed(self, scored: Scored) -> Tensor:
        """Return a term's loss, summed over this process's samples."""

    def forward(self, pairs: Mapping[Term, Pair], same: Identities) -> dict[str, Tensor]:
        """Return the weighted total as ``loss`` and each term under its name.

        Args:
            pairs: one for every term of weight above 0; the same number of samples in every process.
            same: identities of this process's samples.

        The values are those of the global batch, equal in every process. Their gradients are
        this process's share times the number of processes, so that the average over processes,
        which is what DistributedDataParallel takes, is the gradient of the global batch.
        """
        if self.training:
            # Where a step has left the range, the clamp's gradient is 0 and there is no way back.
            with torch.no_grad():
                self.log_scale.clamp_(min=0.0, max=self.highest)
        everyone = same.each(lambda x: gather(x).flatten(0, 1))
        with torch.autocast(self.log_scale.device.type, enabled=False):
            shares = torch.stack([self._share(pairs[term], everyone) for term in self.weights])
            # (terms,): the global mean in value, this process's share in gradient.
            values = shares + (gather(shares.detach()).mean(dim=0) - shares.detach())
            total = (values * self.weighing).sum()
        return {"loss": total, **dict(zip(self.weights, values, strict=True))}

    def _share(self, pair: Pair, everyone: Identities) -> Tensor:
        """Return this process's part of the mean over all samples that have both sides, times the processes."""
        present = gather(pair.present)  # (P, b)
        anyone, query, counted = present.flatten(), pair.query.float(), pair.present
        targets = gather(pair.target.float()).flatten(0, 1)  # (B, E)
        if self.fixed_shapes:
            first = rank() * len(query)
            query, targets = query.masked_fill(~counted[:, None], 0.0), targets.masked_fill(~anyone[:, None], 0.0)
            negatives = Negatives(self.mask, everyone, first, anyone)
            count: Tensor | int = anyone.sum().clamp(min=1)
        else:
            first = int(present[: rank()].sum())
            query, targets, counted = query[counted], targets[anyone], counted[counted]
            negatives = Negatives(self.mask, everyone.each(lambda x: x[anyone]), first)
            count = max(len(targets), 1)
        scored = Scored(query, targets, slice(first, first + len(query)), negatives, counted)
        return self.summed(scored) * (world() / count)


class SymmetricInfoNCE(Objective):
    """Cross entropy of the true partner among the negatives, both ways, averaged (ViML, section 3.2).

    With p the logit of the pair itself and N the log sum exp of its negatives' logits, the cross
    entropy is softplus(N - p), which keeps its digits where p is far above N.

    Hard negatives (Robinson et al. 2021, without their debiasing; HN-NCE in Radenovic et al. 2023):
    negative j weighs w_j = n exp(beta l_j) / sum_k exp(beta l_k), with n negatives of logits l. The
    weights' mean is 1; beta 0 gives plain InfoNCE. Then
    N = log sum_j w_j exp(l_j) = log n + LSE((1 + beta) l) - LSE(beta l).
    The gradient is that of this formula: it flows through the weights too.
    """

    def __init__(self, section: InfoNCE) -> None:
        super().__init__(section)
        self.beta = section.hard_negatives

    def summed(self, scored: Scored) -> Tensor:
        """Return half the sum of both directions' cross entropies; who is not counted has no negatives, which costs 0."""
        scale = self.scale()
        positive = scale * (scored.query * scored.targets[scored.own]).sum(dim=1)  # (b,)
        if self.beta == 0:
            of_row, of_column = self._log_sum_exps(scored, scale)
        else:
            with torch.no_grad():
                count = self._log_sum_exps(scored, 0.0 * scale)  # log n
            hard = self._log_sum_exps(scored, (1.0 + self.beta) * scale)
            norm = self._log_sum_exps(scored, self.beta * scale)
            of_row, of_column = (n + h - z for n, h, z in zip(count, hard, norm, strict=True))
        return 0.5 * (F.softplus(of_row - positive).sum() + F.softplus(of_column - positive).sum())

    def _log_sum_exps(self, scored: Scored, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return those over the negatives of each own sample as a query and as a target, (b,) each."""
        of_row, of_column = log_sum_exps(scored.query, scored.targets, scale, scored.negatives, self.stream_rows)
        # A target's queries are spread over the processes: (P, B) -> (B,) -> (b,).
        return of_row, gather(of_column).logsumexp(dim=0)[scored.own]


class SigmoidLoss(Objective):
    """Every pair of the batch by itself: a match, or none (Zhai et al. 2023, SigLIP).

    The learnt bias starts low, since nearly all pairs are none.
    """

    def __init__(self, section: Sigmoid) -> None:
        super().__init__(section)
        self.bias = nn.Parameter(torch.tensor(section.initial_bias))

    def summed(self, scored: Scored) -> Tensor:
        """Return the sum over own queries and all targets."""
        scale = self.scale()
        positive = scale * (scored.query * scored.targets[scored.own]).sum(dim=1) + self.bias  # (b,)
        negative = softplus_sum(scored.query, scored.targets, scale, self.bias, scored.negatives, self.stream_rows)
        return (scored.counted * F.softplus(-positive)).sum() + negative


def build_loss(section: LossSection) -> Objective:
    """Return the objective of ``encoder.loss``."""
    match section:
        case InfoNCE():
            return SymmetricInfoNCE(section)
        case Sigmoid():
            return SigmoidLoss(section)
        case _:
            assert_never(section)
