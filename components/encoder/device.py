"""Where the model runs, and the switches that make a run repeatable."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def settle(threads: int) -> torch.device:
    """Fix the CPU thread count and deterministic kernels; return the GPU if there is one, else the CPU.

    Floating-point sums depend on how work is cut over threads, so the count is part of the result.
    """
    # cuBLAS reads this when it starts; without it deterministic kernels are refused on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return bf16 autocast where it gains: on GPUs that have it. On CPUs it is slower than float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
