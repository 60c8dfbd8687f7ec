"""Where the model runs, and the switches that make a run repeatable."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16"]


def settle(threads: int) -> torch.device:
    """Fix the CPU thread count and deterministic kernels; return the GPU if there is one, else the CPU.

    Floating-point sums depend on how work is cut over threads, so the count is part of the result.
    """
    # cuBLAS reads this when it starts; without it deterministic kernels are refused on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # As `use_deterministic_algorithms` does, which besides imports the compiler: as long as torch itself takes.
    torch.set_deterministic_debug_mode("error")
    # Costs time in every allocation, and nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compile_model(model: nn.Module, recorded: bool = False) -> Any:
    """Return the model compiled; whether kernels must be deterministic, the compiler is told here.

    Args:
        model: what to compile.
        recorded: play the kernels of a pass from a recording (a CUDA graph), which spares their launches. Outputs
            then lie where those of the next pass will, so that only one pass can be in use at a time.
    """
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    return torch.compile(model, mode="reduce-overhead" if recorded else "default")


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager[Any]:
    """Return the bf16 autocast that ``precision`` asks for; ``auto``: only on GPUs that have bf16.

    On CPUs it is slower than float32 (0.4 times its speed where measured).
    """
    gains = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and gains):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
