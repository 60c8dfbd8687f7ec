"""Objectives over pairs of embeddings: symmetric InfoNCE and the sigmoid loss.

Each process scores its own queries against the targets of all processes, so the processes' blocks
of rows make up the one global score matrix, each cell once.

Shapes: b samples of this process, B samples of all processes (both without those that lack a side, or,
with ``fixed_shapes``, all), E embedding dims.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple, assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.encoder import streaming, sums
from components.encoder.gather import gather, rank, world
from components.encoder.loss_params import TERMS, InfoNCE, LossSection, Sigmoid
from components.encoder.negatives import Negatives
from components.encoder.pairs import Identities, Pair, Term


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
        everyone = _each(same, lambda x: gather(x).flatten(0, 1))
        with torch.autocast(self.log_scale.device.type, enabled=False):
            shares = torch.stack([self._share(pairs[term], everyone) for term in self.weights])
            # (terms,): the global mean in value, this process's share in gradient.
            values = shares + (gather(shares.detach()).mean(dim=0) - shares.detach())
            total = (values * self.weighing).sum()
        return {"loss": total, **dict(zip(self.weights, values, strict=True))}

    def _share(self, pair: Pair, everyone: Identities) -> Tensor:
        """Return this process's part of the mean over all samples that have both sides, times the processes."""
        present = gather(pair.present)  # (processes, samples)
        anyone, query, counted = present.flatten(), pair.query.float(), pair.present
        targets = gather(pair.target.float()).flatten(0, 1)
        if self.fixed_shapes:
            first = rank() * len(query)
            query, targets = query.masked_fill(~counted[:, None], 0.0), targets.masked_fill(~anyone[:, None], 0.0)
            negatives = Negatives(self.mask, everyone, first, anyone)
            count: Tensor | int = anyone.sum().clamp(min=1)
        else:
            first = int(present[: rank()].sum())
            query, targets, counted = query[counted], targets[anyone], counted[counted]
            negatives = Negatives(self.mask, _each(everyone, lambda x: x[anyone]), first)
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
        arguments = (scored.query, scored.targets, scale, scored.negatives)
        if self.stream_rows is None:
            of_row, of_column = sums.log_sum_exps(*arguments)
        else:
            of_row, of_column = streaming.log_sum_exps(*arguments, self.stream_rows)
        # A target's queries are spread over the processes: (processes, B) -> (B,) -> (b,).
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
        arguments = (scored.query, scored.targets, scale, self.bias, scored.negatives)
        if self.stream_rows is None:
            negative = sums.softplus_sum(*arguments)
        else:
            negative = streaming.softplus_sum(*arguments, self.stream_rows)
        return (scored.counted * F.softplus(-positive)).sum() + negative


def _each(same: Identities, change: Callable[[Tensor], Tensor]) -> Identities:
    return Identities(change(same.tracks), change(same.artists), None if same.sound is None else change(same.sound))


def build_loss(section: LossSection) -> Objective:
    """Return the objective of ``encoder.loss``."""
    match section:
        case InfoNCE():
            return SymmetricInfoNCE(section)
        case Sigmoid():
            return SigmoidLoss(section)
        case _:
            assert_never(section)
