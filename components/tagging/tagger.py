"""The seam: which tagger is fitted, and what its folder holds."""

import hashlib
import json
from pathlib import Path
from typing import assert_never

import numpy as np

from components import stage
from components.tagging.examples import Examples
from components.tagging.logistic import one_thread
from components.tagging.params import ProbeParams, TaggingParams
from components.tagging.plots import draw_reliability
from components.tagging.probe import Fit, Tagger, fit_probe


def fit_tagger(examples: Examples, params: TaggingParams) -> Fit:
    """Fit the tagger that the section asks for."""
    match params:
        case ProbeParams():
            with one_thread():
                return fit_probe(examples, params)
        case _:
            assert_never(params)


def save_tagger(fit: Fit, folder: Path, params: TaggingParams, features: str) -> None:
    """Write tagger.safetensors, config.json, scores.json and reliability.png.

    Args:
        fit: the fitted tagger.
        folder: replaced, whole.
        params: recorded in the config.
        features: digest of the music features' spec; the tagger fits no others.
    """
    from safetensors.numpy import save_file

    with stage.atomic_folder(folder) as part:
        tensors = {
            "weights": np.ascontiguousarray(fit.tagger.weights),
            "biases": np.ascontiguousarray(fit.tagger.biases),
        }
        save_file(tensors, part / "tagger.safetensors")
        config = {
            "params": params.model_dump(),
            "features": features,
            "tags": [{"group": group, "name": name} for group, name in fit.tagger.tags],
        }
        stage.write_json(part / "config.json", config)
        stage.write_json(part / "scores.json", fit.scores)
        draw_reliability(fit, part / "reliability.png")


def load_tagger(folder: Path) -> Tagger:
    """Read a saved tagger."""
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "tagger.safetensors")
    return Tagger([(tag["group"], tag["name"]) for tag in config["tags"]], tensors["weights"], tensors["biases"])


def tagger_digest(tagger: Tagger, threshold: float, features: str) -> str:
    """Return the sha256 of all that decides a clip's tags, its features apart."""
    digest = hashlib.sha256(json.dumps([tagger.tags, threshold, features]).encode())
    digest.update(np.ascontiguousarray(tagger.weights).tobytes())
    digest.update(np.ascontiguousarray(tagger.biases).tobytes())
    return digest.hexdigest()
