"""When the GPU's memory does not do: find what fits, and say it."""

from collections.abc import Callable

import torch

from components.encoder.device import autocast
from components.encoder.model import Batch
from components.training.gradients import Step, push, rows


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
