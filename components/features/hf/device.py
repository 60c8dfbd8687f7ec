"""Where the models run and in which numbers, chosen by what the machine can do."""

import os
from typing import TYPE_CHECKING, Any

from components.features.params import HfParams

if TYPE_CHECKING:
    import torch


def settle(params: HfParams) -> "tuple[torch.device, torch.dtype]":
    """Return device and dtype, with torch set up to give the same numbers each time.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    # cuBLAS reads this when it starts; without it its sums are not repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    gpu = params.device != "cpu" and torch.cuda.is_available()
    if params.device == "cuda" and not gpu:
        raise ValueError("params.yaml: features.device: no GPU is visible here; use auto or cpu")
    torch.set_num_threads(params.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # On CPUs bfloat16 is slower than float32.
    half = gpu and torch.cuda.is_bf16_supported()
    chosen = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    dtype = chosen.get(params.dtype, torch.bfloat16 if half else torch.float32)
    return torch.device("cuda" if gpu else "cpu"), dtype


def out_of_memory(error: Exception) -> bool:
    """Return whether an error means that the batch was too large."""
    import torch

    # The CPU's allocator has no exception of its own.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error)


def bytes_of(*models: Any) -> int:
    """Return the size of models' weights."""
    return sum(weight.numel() * weight.element_size() for model in models for weight in model.parameters())
