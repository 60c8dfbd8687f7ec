"""Fit the probe tagger: choose the penalty, calibrate, and score, each on tracks left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.modalities import TAG_GROUPS
from components.tagging.examples import Examples, Tag, fold_of
from components.tagging.logistic import fit_logistic, fit_platt, log_loss, sigmoid
from components.tagging.params import ProbeParams
from components.tagging.scores import score_tags

Array = NDArray[np.float64]

MIN_TRACKS = 10  # of a seed library that can be cross-validated at all


@dataclass(frozen=True)
class Tagger:
    """A fitted linear tagger: P pooled features to probabilities of T tags."""

    tags: list[Tag]
    weights: Array  # (T, P), calibrated, on features as they come
    biases: Array  # (T,)

    def probabilities(self, features: Array) -> Array:
        """Return (N, T) of features (N, P); a row's result does not depend on the other rows."""
        return sigmoid(np.einsum("np,tp->nt", features, self.weights) + self.biases)


@dataclass(frozen=True)
class Fit:
    """A tagger and what is known about it."""

    tagger: Tagger
    scores: dict[str, Any]
    examples: Examples
    held_out: Array  # (N, T) probabilities from fits that had not seen the track


def fit_probe(examples: Examples, params: ProbeParams) -> Fit:
    """Fit the tagger on the seed library; without usable tags it is a tagger that says nothing."""
    count, width = examples.features.shape
    if not examples.tags or count < MIN_TRACKS:
        tagger, empty = Tagger([], np.zeros((0, width)), np.zeros(0)), np.zeros((count, 0))
        return Fit(tagger, score_tags([], empty.astype(bool), empty), examples, empty)
    fold = fold_of(examples.clip_ids, min(params.folds, count), params.seed)
    logits = _held_out_logits(examples, fold, params.l2)
    l2 = min(logits, key=lambda value: log_loss(logits[value], examples.labels))
    held_out = _held_out_probabilities(logits[l2], examples.labels, examples.tags, fold)

    mean, scale = _standard(examples.features)
    weights, biases = fit_logistic((examples.features - mean) * scale, examples.labels, [l2])[l2]
    slope, offset = _calibration(logits[l2], examples.labels, examples.tags)
    weights = weights * scale * slope[:, None]
    tagger = Tagger(examples.tags, weights, biases * slope + offset - weights @ mean)
    scores = score_tags(examples.tags, examples.labels, held_out) | {"l2": l2}
    return Fit(tagger, scores, examples, held_out)


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


def _held_out_probabilities(
    logits: Array, labels: NDArray[np.bool_], tags: Sequence[Tag], fold: NDArray[np.int64]
) -> Array:
    """Calibrate each fold with the others, so that the calibration is judged on new tracks too."""
    probabilities = np.empty_like(logits)
    for number in np.unique(fold):
        slope, offset = _calibration(logits[fold != number], labels[fold != number], tags)
        probabilities[fold == number] = sigmoid(logits[fold == number] * slope + offset)
    return probabilities


def _calibration(logits: Array, labels: NDArray[np.bool_], tags: Sequence[Tag]) -> tuple[Array, Array]:
    """Return slope and offset (T,), one line per group: single tags have too few tracks for their own."""
    slope, offset = np.ones(len(tags)), np.zeros(len(tags))
    for group in TAG_GROUPS:
        inside = [at for at, tag in enumerate(tags) if tag[0] == group]
        if inside:
            slope[inside], offset[inside] = fit_platt(logits[:, inside], labels[:, inside])
    return slope, offset
