"""From scores to probabilities that come true: one line per group (Platt, 1999).

Single tags have too few tracks for lines of their own. N tracks, T tags.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from components.modalities import TAG_GROUPS
from components.tagging.logistic import fit_platt, sigmoid
from components.taxonomy import Tag

Array = NDArray[np.float64]
Lines = Mapping[str, tuple[float, float]]  # group: slope and offset, on logits

DECIMALS = 6  # of a probability; more would be rounding noise
_FLOOR = 10.0**-DECIMALS


def fit_lines(logits: Array, labels: NDArray[np.bool_], tags: Sequence[Tag]) -> dict[str, tuple[float, float]]:
    """Return the line of each group that has tags, from logits (N, T) and labels (N, T)."""
    columns = {group: [at for at, tag in enumerate(tags) if tag[0] == group] for group in TAG_GROUPS}
    return {group: fit_platt(logits[:, inside], labels[:, inside]) for group, inside in columns.items() if inside}


def per_tag(lines: Lines, tags: Sequence[Tag]) -> tuple[Array, Array]:
    """Return slope and offset (T,) of each tag."""
    pairs = [lines.get(group, (1.0, 0.0)) for group, _ in tags]
    return np.array([slope for slope, _ in pairs]), np.array([offset for _, offset in pairs])


def held_out(logits: Array, labels: NDArray[np.bool_], tags: Sequence[Tag], fold: NDArray[np.int64]) -> Array:
    """Calibrate each fold (N,) with the others, so that the calibration is judged on new tracks too."""
    probabilities = np.empty_like(logits)
    for number in np.unique(fold):
        inside = fold != number
        slope, offset = per_tag(fit_lines(logits[inside], labels[inside], tags), tags)
        probabilities[~inside] = sigmoid(logits[~inside] * slope + offset)
    return probabilities


def logits_of(scores: Array) -> Array:
    """Return log odds of probabilities, those of 0 and 1 kept finite."""
    clipped = np.clip(scores, _FLOOR, 1 - _FLOOR)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def calibrated(scores: Array, groups: Sequence[str | None], lines: Lines) -> Array:
    """Return probabilities of scores (N, C), whose columns belong to ``groups``; others stay as they are."""
    probabilities = scores.copy()
    for group, (slope, offset) in lines.items():
        inside = [at for at, other in enumerate(groups) if other == group]
        probabilities[:, inside] = sigmoid(logits_of(scores[:, inside]) * slope + offset)
    return np.round(probabilities, DECIMALS)
