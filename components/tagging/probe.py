"""The probe: a linear tagger over music features. Its penalty, calibration and figures come from tracks left out."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.code import code_digest
from components.store import FeatureStore, rows_digest
from components.tagging.calibration import fit_lines, held_out, per_tag
from components.tagging.clips import Clip
from components.tagging.examples import MIN_TRACKS, Examples, fold_of, open_stores, pooled, seed_examples
from components.tagging.folder import read_document
from components.tagging.logistic import fit_logistic, log_loss, one_thread, sigmoid
from components.tagging.params import ProbeParams
from components.tagging.plots import draw_reliability
from components.tagging.scores import score_tags
from components.tagging.tagger import Fitted, Library
from components.tagging.vocabulary import given
from components.taxonomy import Tag, Taxonomy

Array = NDArray[np.float64]

_FILES = ("tagger.safetensors", "reliability.png")


@dataclass(frozen=True)
class Probe:
    """A fitted linear tagger: P pooled features to probabilities of T tags."""

    tags: list[Tag]
    weights: Array  # (T, P), calibrated, on features as they come
    biases: Array  # (T,)

    def probabilities(self, features: Array) -> Array:
        """Return (N, T) of features (N, P); a row's result does not depend on the other rows."""
        return sigmoid(np.einsum("np,tp->nt", features, self.weights) + self.biases)


@dataclass(frozen=True)
class Fit:
    """A probe and what is known about it."""

    probe: Probe
    scores: dict[str, Any]
    held_out: Array  # (N, T) probabilities from fits that had not seen the track


class ProbeTagger:
    """A probe and the features it reads. See ``Tagger``."""

    def __init__(self, probe: Probe, music: FeatureStore) -> None:
        """``music``: features of the clips, by the extractor that the probe was fitted on."""
        self.labels = tuple(name for _, name in probe.tags)
        digest = hashlib.sha256(json.dumps([code_digest(ProbeTagger), probe.tags, rows_digest(music.spec)]).encode())
        digest.update(np.ascontiguousarray(probe.weights).tobytes())
        digest.update(np.ascontiguousarray(probe.biases).tobytes())
        self.digest = digest.hexdigest()
        self._probe, self._music = probe, music

    def keys(self, clips: Sequence[Clip]) -> dict[str, str]:
        """See ``Tagger.keys``: those of the features; clips without any have none."""
        keys = dict(zip(self._music.clip_ids, self._music.keys, strict=True))
        return {clip.clip_id: keys[clip.clip_id] for clip in clips if clip.clip_id in keys}

    def score(self, clips: Sequence[Clip]) -> Iterator[tuple[str, Array]]:
        """See ``Tagger.score``."""
        clip_ids = [clip.clip_id for clip in clips]
        yield from zip(clip_ids, self._probe.probabilities(pooled(self._music, clip_ids)), strict=True)


def fit_probe_tagger(params: ProbeParams, taxonomy: Taxonomy, library: Library, folder: Path) -> Fitted:
    """Return the probe of the last run where library, features and params are the same; else fit one.

    Raises:
        ValueError: a feature store is damaged or of another extractor, or a tag's group is unknown.
    """
    music, seed_music = open_stores(library.clip_features, library.features)
    examples = seed_examples(library.rows, seed_music, params.min_examples)
    fitted_on = _digest(examples, params, music.digest)
    probe, scores, files = _saved(folder, fitted_on) or _fitted(examples, params)
    return Fitted(
        tagger=ProbeTagger(probe, music),
        vocabulary=given(probe.tags, taxonomy),
        lines={},  # the calibration is part of the weights
        scores=scores,
        left_out=examples.left_out,
        config={"features": music.digest, "fitted_on": fitted_on, "tags": _listed(probe.tags)},
        files=files,
    )


def fit_probe(examples: Examples, params: ProbeParams) -> Fit:
    """Fit a probe on the seed library; without usable tags it is one that says nothing."""
    count, width = examples.features.shape
    if not examples.tags or count < MIN_TRACKS:
        empty = np.zeros((count, 0))
        return Fit(Probe([], np.zeros((0, width)), np.zeros(0)), score_tags([], empty.astype(bool), empty), empty)
    fold = fold_of(examples.clip_ids, min(params.folds, count), params.seed)
    with one_thread():
        logits = _held_out_logits(examples, fold, params.l2)
        l2 = min(logits, key=lambda value: log_loss(logits[value], examples.labels))
        apart = held_out(logits[l2], examples.labels, examples.tags, fold)
        mean, scale = _standard(examples.features)
        weights, biases = fit_logistic((examples.features - mean) * scale, examples.labels, [l2])[l2]
        slope, offset = per_tag(fit_lines(logits[l2], examples.labels, examples.tags), examples.tags)
        weights = weights * scale * slope[:, None]
        probe = Probe(examples.tags, weights, biases * slope + offset - weights @ mean)
    return Fit(probe, score_tags(examples.tags, examples.labels, apart) | {"l2": l2}, apart)


def _fitted(examples: Examples, params: ProbeParams) -> tuple[Probe, dict[str, Any], dict[str, bytes]]:
    """Return a new probe, its figures and its files."""
    from safetensors.numpy import save

    fit = fit_probe(examples, params)
    labels = examples.labels if fit.probe.tags else np.zeros((len(examples.clip_ids), 0), bool)
    tensors = {
        "weights": np.ascontiguousarray(fit.probe.weights),
        "biases": np.ascontiguousarray(fit.probe.biases),
    }
    picture = draw_reliability(fit.probe.tags, labels, fit.held_out, fit.scores)
    return fit.probe, fit.scores, {"tagger.safetensors": save(tensors), "reliability.png": picture}


def _saved(folder: Path, fitted_on: str) -> tuple[Probe, dict[str, Any], dict[str, bytes]] | None:
    """Return the last run's probe, its figures and its files, if it was fitted on the same and is whole."""
    config, scores = read_document(folder / "config.json"), read_document(folder / "scores.json")
    if config.get("fitted_on") != fitted_on or not scores:
        return None
    if not all((folder / name).is_file() for name in _FILES):
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load

    files = {name: (folder / name).read_bytes() for name in _FILES}
    try:
        tensors = load(files["tagger.safetensors"])
        tags = [(tag["group"], tag["name"]) for tag in config["tags"]]
        return Probe(tags, tensors["weights"], tensors["biases"]), scores, files
    except (SafetensorError, KeyError, TypeError):
        return None


def _digest(examples: Examples, params: ProbeParams, features: str) -> str:
    """Return the sha256 of all that decides a fit."""
    settings = params.model_dump(exclude={"thresholds"})
    digest = hashlib.sha256(
        json.dumps([code_digest(_fitted), settings, features, examples.clip_ids, examples.tags]).encode()
    )
    digest.update(np.ascontiguousarray(examples.features).tobytes())
    digest.update(np.ascontiguousarray(examples.labels).tobytes())
    return digest.hexdigest()


def _listed(tags: Sequence[Tag]) -> list[dict[str, str]]:
    return [{"group": group, "name": name} for group, name in tags]


def _standard(features: Array) -> tuple[Array, Array]:
    """Return mean and 1 / deviation (P,), 0 where a feature never changes."""
    deviation = features.std(axis=0)
    return features.mean(axis=0), np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)


def _held_out_logits(examples: Examples, fold: NDArray[np.int64], penalties: Sequence[float]) -> dict[float, Array]:
    """Return per penalty the logits (N, T) of each fold by a fit on the others."""
    logits = {l2: np.empty(examples.labels.shape) for l2 in sorted(penalties)}
    for number in np.unique(fold):
        inside, outside = fold != number, fold == number
        mean, scale = _standard(examples.features[inside])
        fits = fit_logistic((examples.features[inside] - mean) * scale, examples.labels[inside], penalties)
        for l2, (weights, biases) in fits.items():
            logits[l2][outside] = ((examples.features[outside] - mean) * scale) @ weights.T + biases
    return logits
