"""Where the model runs, and the switches that make a run repeatable.

torch is imported inside the functions: how its threads wait must be said before.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]


def wait_quietly() -> None:
    """Let idle OpenMP threads sleep, not spin; call before torch is first imported.

    Spinning gains little on a free machine, and on a shared one the spinning threads take the
    processor from those with work: a training step took 4.6 times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def deterministic_device(threads: int) -> "torch.device":
    """Fix the CPU thread count and deterministic kernels; return the GPU if there is one, else the CPU.

    Floating-point sums depend on how work is cut over threads, so the count is part of the result.
    """
    # cuBLAS reads this when it starts; without it deterministic kernels are refused on a GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    # As `use_deterministic_algorithms` does, which besides imports the compiler: as long as torch itself takes.
    torch.set_deterministic_debug_mode("error")
    # Costs time in every allocation, and nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compile_model(model: "torch.nn.Module", recorded: bool = False) -> Any:
    """Return the model compiled; whether kernels must be deterministic, the compiler is told here.

    Args:
        model: what to compile.
        recorded: play the kernels of a pass from a recording (a CUDA graph), which spares their launches. Outputs
            then lie where those of the next pass will, so that only one pass can be in use at a time.
    """
    import torch

    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    return torch.compile(model, mode="reduce-overhead" if recorded else "default")


def autocast(device: "torch.device", precision: Precision = "auto") -> AbstractContextManager[Any]:
    """Return the bf16 autocast that ``precision`` asks for; ``auto``: only on GPUs that have bf16.

    On CPUs it is slower than float32 (0.4 times its speed where measured).
    """
    import torch

    gains = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and gains):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
