"""Where the models run and in which numbers, chosen by what the machine can do."""

from typing import TYPE_CHECKING, Any

from components.device import choose_device
from components.features.params import HfParams

if TYPE_CHECKING:
    import torch


def device_and_dtype(params: HfParams) -> "tuple[torch.device, torch.dtype]":
    """Return device and dtype, with torch set up to give the same numbers each time.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    device = choose_device(params.device, params.threads, "features.device")
    import torch

    # On CPUs bfloat16 is slower than float32.
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    chosen = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    dtype = chosen.get(params.dtype, torch.bfloat16 if half else torch.float32)
    return device, dtype


def bytes_of(*models: Any) -> int:
    """Return the size of models' weights."""
    return sum(weight.numel() * weight.element_size() for model in models for weight in model.parameters())
