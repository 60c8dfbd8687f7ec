"""Checkpoints: one safetensors file, replaced atomically, that a run resumes from exactly.

Tensors hold weights, optimiser moments and the best weights so far; the header holds the scalars
and the history as JSON. Random draws are functions of the step, so there is no state of them.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.stage import atomic_file

FILE = "checkpoint.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

log = logging.getLogger(__name__)

Weights = dict[str, Tensor]


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: steps done.
        best_value: val recall and MRR of the best validation so far.
        best_step: when that was.
        stale: validations since.
        cuts: (step from which on, processes, chunk) each time the work was cut in another way.
        history: (step, name, value).
        best: the weights of the best validation.
    """

    step: int = 0
    best_value: tuple[float, float] = (-1.0, -1.0)
    best_step: int = 0
    stale: int = 0
    cuts: list[tuple[int, int, int | None]] = field(default_factory=list)
    history: list[tuple[int, str, float]] = field(default_factory=list)
    best: Weights = field(default_factory=dict)


def identity(parts: Iterable[str | bytes]) -> str:
    """Return the digest a checkpoint is bound to: of the data, the parameters, the code and the computer."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


class Checkpoints:
    """The checkpoint of one run in a folder; one of another run is never taken up."""

    def __init__(self, folder: Path, bound_to: str) -> None:
        self._path, self._bound_to = folder / FILE, bound_to

    def save(self, progress: Progress, weights: Weights, optimiser: torch.optim.Optimizer) -> None:
        """Write the state; a kill leaves the earlier checkpoint whole."""
        from safetensors.torch import save_file

        moments = optimiser.state_dict()["state"]
        tensors = {f"weights/{name}": tensor for name, tensor in weights.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in progress.best.items()}
        tensors |= {f"moments/{at}/{name}": tensor for at, state in moments.items() for name, tensor in state.items()}
        scalars = {k: v for k, v in vars(progress).items() if k != "best"}
        header = {"bound_to": self._bound_to, "progress": json.dumps(scalars)}
        with atomic_file(self._path) as part:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, metadata=header)

    def load(self, optimiser: torch.optim.Optimizer) -> tuple[Progress, Weights] | None:
        """Return the saved state and set the optimiser to it; None when there is none of this run.

        Raises:
            ValueError: the folder holds a pickled checkpoint, which is not ours to read or remove.
        """
        if not self._path.is_file():
            self._refuse_pickles()
            return None
        try:
            header, tensors = _read(self._path)
        except (OSError, ValueError) as error:
            log.info("training: %s cannot be read (%s); starting anew", self._path, " ".join(str(error).split()))
            return None
        if "bound_to" not in header or "progress" not in header:
            log.info("training: %s is no checkpoint of training; starting anew", self._path)
            return None
        if header["bound_to"] != self._bound_to:
            log.info("training: %s belongs to other data, parameters or code; starting anew", self._path)
            return None
        scalars = json.loads(header["progress"])
        scalars["history"] = [(int(step), str(name), float(value)) for step, name, value in scalars["history"]]
        scalars["best_value"] = tuple(scalars["best_value"])
        scalars["cuts"] = [(step, processes, chunk) for step, processes, chunk in scalars["cuts"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("moments/", tensors).items():
            at, key = name.split("/")
            moments.setdefault(int(at), {})[key] = tensor
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
        return Progress(**scalars, best=_under("best/", tensors)), _under("weights/", tensors)

    def remove(self) -> None:
        """Delete the checkpoint and its folder: the run is finished and its outputs are in place."""
        self._path.unlink(missing_ok=True)
        for part in self._path.parent.glob(f".{FILE}.*.part"):  # a kill left it
            part.unlink(missing_ok=True)
        with suppress(OSError):  # something else lies there
            self._path.parent.rmdir()

    def _refuse_pickles(self) -> None:
        pickled = sorted(path for path in self._path.parent.glob("*") if path.suffix in PICKLED)
        if pickled:
            raise ValueError(
                f"{pickled[0]}: pickled checkpoints can run code and are never loaded; "
                "take it out of the folder to train anew"
            )


def _read(path: Path) -> tuple[dict[str, Any], Weights]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _under(prefix: str, tensors: Weights) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
