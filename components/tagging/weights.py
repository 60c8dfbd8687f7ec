"""Weights of the user's: read as plain tensors, hashed, never run."""

from pathlib import Path
from typing import Any


def read_state(path: Path) -> dict[str, Any]:
    """Read a state dict from a .pth or .safetensors file onto the CPU.

    Raises:
        ValueError: no such file, not weights, or a pickle that would run code; the file is named.
    """
    import torch

    if not path.is_file():
        raise ValueError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickles fail in many ways, and every one means the same
        told = " ".join(str(error).split())
        raise ValueError(
            f"{path}: not a plain state dict (damaged, or a pickle with code, which is not run): {told[:200]}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path}: not a plain state dict; save the model's state_dict() alone")
    bad = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise ValueError(f"{path}: {bad[0]} has values that are not finite numbers")
    return {str(name): value for name, value in state.items()}
