"""The gradient of a step, whole or with a cache; and what fits where memory does not do.

With a cache (Gao et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", section 3) a large batch needs the activations of one chunk only: embed all chunks without
a graph, take the loss and its gradient at the embeddings, then embed each chunk again and push its
part of that gradient through. Both passes draw the same hidden units, so the result is exact.

Shapes: B samples, S segments, D feature dims, E embedding dims.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from components.encoder.device import Precision, autocast, compile_model
from components.encoder.losses import Identities, Objective, Pair
from components.encoder.model import Batch, TrimodalModel
from components.encoder.params import Term

Pairs = dict[Term, Pair]


class Step(nn.Module):
    """Model and objective as one module, so that DDP sees every parameter and where it is used."""

    def __init__(self, model: TrimodalModel, device: torch.device, precision: Precision) -> None:
        super().__init__()
        self.model, self.device, self.precision = model, device, precision
        model.loss.fixed_shapes = device.type == "cuda"
        # Not submodules: their parameters are the model's, and a name of their own would double them.
        self._embed: tuple[Callable[[Batch], Pairs]] = (model,)
        self._score: tuple[Objective] = (model.loss,)

    def use_compiler(self, whole: bool, alone: bool) -> None:
        """Compile the model, and the objective where that is of use: in one process, without streaming.

        Args:
            whole: the model sees a batch in one pass, not in chunks.
            alone: there is one process.
        """
        recorded = whole and alone and self.device.type == "cuda"
        self._embed = (compile_model(self.model, recorded),)
        if alone and self.model.loss.fixed_shapes and self.model.loss.stream_rows is None:
            self._score = (compile_model(self.model.loss, recorded),)

    def embed(self, batch: Batch) -> Pairs:
        """Return the pairs of a batch or of a part of it."""
        with autocast(self.device, self.precision):
            return self._embed[0](batch)

    def score(self, pairs: Pairs, same: Identities) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        terms: dict[str, Tensor] = self._score[0](pairs, same)
        return terms

    def freeze_unused(self) -> None:
        """Ask no gradient of the parameters that these settings leave out, such as the fusion's of a loss without it.

        They never get one; DDP would wait for it.
        """
        one = {
            m: (torch.zeros(1, 1, dims, device=self.device), torch.ones(1, 1, dtype=torch.bool, device=self.device))
            for m, dims in self.model.dims.items()
        }
        push(self.model(one))
        for parameter in (p for name, p in self.model.named_parameters() if not name.startswith("loss.")):
            parameter.requires_grad_(parameter.grad is not None)
        self.zero_grad(set_to_none=True)

    def forward(self, batch: Batch, same: Identities) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        return self.score(self.embed(batch), same)


def push(pairs: Pairs) -> None:
    """Run a backward pass from the embeddings alone, without an objective."""
    sums = torch.stack([side.sum() for pair in pairs.values() for side in (pair.query, pair.target)])
    sums.sum().backward()  # type: ignore[no-untyped-call]


def whole(step: nn.Module, batch: Batch, same: Identities, reseed: Callable[[int], None]) -> dict[str, Tensor]:
    """Add the gradient of a batch to the parameters; return the loss and its terms, detached.

    Args:
        step: a ``Step``, or DDP around one.
        batch: the samples of this process.
        same: who they are.
        reseed: sets torch's generators for the part that begins at a sample (0 here).
    """
    reseed(0)
    terms: dict[str, Tensor] = step(batch, same)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    return {name: value.detach() for name, value in terms.items()}


def cached(step: Step, batch: Batch, same: Identities, chunk: int, reseed: Callable[[int], None]) -> dict[str, Tensor]:
    """Do the same as ``whole`` with the activations of ``chunk`` samples at a time.

    The gradients are those of this process; where there are several, average them afterwards.
    """
    starts = range(0, len(same.tracks), chunk)
    with torch.no_grad():
        parts = []
        for start in starts:
            reseed(start)
            parts.append(step.embed(rows(batch, start, chunk)))
    leaves = {term: _leaf([part[term] for part in parts]) for term in parts[0]}
    del parts
    terms = step.score(leaves, same)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    for start in starts:
        reseed(start)
        pairs = step.embed(rows(batch, start, chunk))
        outputs = [side for pair in pairs.values() for side in (pair.query, pair.target)]
        into = [side.grad for pair in leaves.values() for side in (pair.query, pair.target)]
        taken = [(y, g[start : start + chunk]) for y, g in zip(outputs, into, strict=True) if g is not None]
        torch.autograd.backward([y for y, _ in taken], [g for _, g in taken])
    return {name: value.detach() for name, value in terms.items()}


def rows(batch: Batch, start: int, count: int) -> Batch:
    """Return a part of a batch."""
    return {m: (values[start : start + count], mask[start : start + count]) for m, (values, mask) in batch.items()}


def _leaf(parts: list[Pair]) -> Pair:
    query, target, present = (torch.cat(side) for side in zip(*parts, strict=True))
    return Pair(query.requires_grad_(), target.requires_grad_(), present)


# -- where a GPU's memory does not do --------------------------------------------------------------


def largest_that_fits(attempt: Callable[[int], None], first: int) -> int | None:
    """Return the largest of ``first``, half of it, a quarter, ... whose attempt has enough memory; None if none has.

    Args:
        attempt: works on that many samples; raises ``torch.OutOfMemoryError`` where memory does not do.
        first: the size to begin with.
    """
    size = first
    while size >= 1:
        try:
            attempt(size)
        except torch.OutOfMemoryError:
            size //= 2
        else:
            return size
        finally:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return None


def advice(step: Step, batch: Batch, failed: int) -> str:
    """Return what to change after a step with forward passes of ``failed`` samples ran out of memory.

    Only this process's own passes are tried; no other process takes part.
    """

    def attempt(count: int) -> None:
        with autocast(step.device, step.precision):  # not compiled, which would take long for each size
            pairs = step.model(rows(batch, 0, count))
        push(pairs)
        step.zero_grad(set_to_none=True)

    step.zero_grad(set_to_none=True)
    fits = largest_that_fits(attempt, failed)
    size = len(next(iter(batch.values()))[1])
    beginning = f"a step of {size} clips on {step.device} does not fit into its memory"
    if fits is None:
        return f"{beginning}, nor does a single clip; make the model smaller or free the device"
    if fits == failed:
        return (
            f"{beginning}: forward passes of {fits} do, the scores of all pairs do not; "
            "set encoder.loss.stream_rows, or lower training.batch"
        )
    return f"{beginning}; the largest part that fits is {fits}: set training.chunk to {fits}, or lower training.batch"
