"""A model as files: ``model.safetensors`` and ``config.json``. Nothing is pickled.

config.json holds all that is needed to rebuild the model and to know what fits it: the encoder
section, feature dims and extractor digests per modality, and the digest of the weights beside it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.modalities import MODALITIES, Modality
from components.settings import ParamsError, parse_section
from components.stage import write_json

FORMAT = "needledrop.trimodal/3"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class LoadedModel:
    """A model with its identity.

    Attributes:
        model: in eval mode.
        digest: sha256 of config.json, which holds the weights' own: it names the model.
        features: the extractor (store spec) digest per modality that the model was trained on.
    """

    model: TrimodalModel
    digest: str
    features: dict[Modality, str]


def save_model(folder: Path, model: TrimodalModel, features: Mapping[Modality, str]) -> None:
    """Write weights and config into ``folder`` (which exists).

    Args:
        folder: where to; equal weights give equal bytes.
        model: its tensors are written as float32.
        features: the store spec digest per modality.
    """
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(model.state_dict().items())}
    data = save(state, metadata={"format": FORMAT})
    (folder / WEIGHTS).write_bytes(data)
    config = {
        "format": FORMAT,
        "encoder": model.section.model_dump(),
        "modalities": {m: {"dims": model.dims[m], "features": features[m]} for m in MODALITIES},
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    write_json(folder / CONFIG, config)


def load_model(folder: Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Read a model that ``save_model`` wrote.

    Raises:
        ValueError: files are missing, pickled, foreign, damaged or do not belong together.
    """
    from safetensors.torch import load

    config, text = _read_config(folder)
    if not (folder / WEIGHTS).is_file():
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED)
        if pickled:
            raise ValueError(
                f"{folder / pickled[0]}: pickled weights can run code and are never loaded; need {WEIGHTS}"
            )
        raise ValueError(f"{folder / WEIGHTS}: no such file; run training again")
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != config["weights_sha256"]:
        raise ValueError(
            f"{folder / WEIGHTS}: not the weights {CONFIG} speaks of (sha256 differs); restore both together"
        )
    try:
        section: EncoderSection = parse_section(EncoderSection, "encoder", config)
        dims: dict[Modality, int] = {m: int(config["modalities"][m]["dims"]) for m in MODALITIES}
        features: dict[Modality, str] = {m: str(config["modalities"][m]["features"]) for m in MODALITIES}
        with torch.random.fork_rng(devices=[]):  # building draws initial weights; leave the caller's stream alone
            model = TrimodalModel(section, dims)
        model.load_state_dict(load(data))
    except ParamsError as error:
        raise ValueError(f"{folder / CONFIG}: {str(error).removeprefix('params.yaml: ')}") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder}: config and weights do not fit together: {' '.join(str(error).split())}") from None
    return LoadedModel(model.to(device).eval(), hashlib.sha256(text.encode()).hexdigest(), features)


def _read_config(folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / CONFIG
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run training first") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT or "weights_sha256" not in config:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{path}: not a trimodal model of this version (format {found!r}, expected {FORMAT!r})")
    return config, text
