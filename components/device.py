"""Where pre-trained models run, and what it looks like when their memory does not do."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def choose_device(device: str, threads: int, key: str) -> "torch.device":
    """Return the torch device asked for, set up to give the same numbers each time.

    Args:
        device: auto, cpu or cuda; auto takes a GPU where there is one.
        threads: on a CPU.
        key: of params.yaml that asks for it.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    # cuBLAS reads this when it starts; without it its sums are not repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    gpu = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not gpu:
        raise ValueError(f"params.yaml: {key}: no GPU is visible here; use auto or cpu")
    torch.set_num_threads(threads)
    # As `use_deterministic_algorithms` does, which besides imports the compiler: as long as torch itself takes.
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda" if gpu else "cpu")


def out_of_memory(error: Exception) -> bool:
    """Return whether an error means that the batch was too large."""
    import torch

    # The CPU's allocator has no exception of its own.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error)
