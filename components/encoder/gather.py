"""Tensors of all processes in each of them, with gradient.

With in-batch negatives every process needs the others' embeddings, and its own get gradient from
the others' losses. Where no process group is started, there is one process.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(x: Tensor) -> Tensor:
    """Return ``x`` (...) of every process as (processes, ...), in the order of their ranks.

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
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # (processes, ...) -> (...)
        out = torch.empty_like(gradient[0])
        dist.reduce_scatter_single(out, gradient.contiguous().flatten(0, 1))
        return out
