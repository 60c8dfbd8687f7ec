"""How a sentence encoder makes one embedding of its tokens, as the files beside its weights say.

The layout is that of the sentence-transformers library (Reimers and Gurevych, 2019): ``modules.json``
lists what follows the Transformer; without it the mean over the tokens is taken.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Mode = Literal["mean", "cls", "max"]

_MODES: dict[str, Mode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Pooling:
    """From (B, T, D) states and a (B, T) mask to (B, D)."""

    mode: Mode
    unit: bool
    """Whether embeddings are brought to length 1."""

    def __call__(self, states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
        """Pool over the tokens that are the text's; fillings do not count."""
        import torch

        states, weight = states.float(), mask[:, :, None].float()
        if self.mode == "cls":
            pooled = states[:, 0]
        elif self.mode == "max":
            pooled = states.masked_fill(weight == 0, -torch.inf).amax(dim=1)
        else:
            pooled = (states * weight).sum(dim=1) / weight.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=1) if self.unit else pooled


def read_pooling(folder: Path) -> Pooling:
    """Read how the sentence encoder in ``folder`` pools.

    Raises:
        ValueError: a file is damaged, or asks for what is not done here; it is named.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return Pooling("mean", False)
    mode: Mode = "mean"
    unit = False
    for module in _json(path, list):
        name = str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else ""
        if name == "Pooling":
            mode = _mode(folder / str(module.get("path", "")) / "config.json")
        elif name == "Normalize":
            unit = True
        elif name != "Transformer":
            raise ValueError(f"{path}: a module of type '{name}' is not known; Transformer, Pooling and Normalize are")
    return Pooling(mode, unit)


def _mode(path: Path) -> Mode:
    said = _json(path, dict)
    asked = [name for name, value in said.items() if name.startswith("pooling_mode_") and value is True]
    named = said.get("pooling_mode")
    if not asked and isinstance(named, str):
        asked = [next((key for key, mode in _MODES.items() if mode == named), named)]
    if len(asked) != 1 or asked[0] not in _MODES:
        raise ValueError(f"{path}: pooling must be one of {', '.join(_MODES)}, not {', '.join(asked) or 'none'}")
    return _MODES[asked[0]]


def _json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if not isinstance(content, kind):
        raise ValueError(f"{path}: damaged, not a JSON {kind.__name__}")
    return content
