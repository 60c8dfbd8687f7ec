"""How good the tagger is on tracks it was not fitted on: ranking, precision and calibration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.modalities import TAG_GROUPS
from components.taxonomy import Tag

_BINS = 10


def score_tags(tags: Sequence[Tag], labels: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Return per group the macro ROC-AUC, PR-AUC and calibration error, and each tag's own figures.

    Args:
        tags: T tags.
        labels: (N, T).
        probabilities: (N, T), each from a tagger that had not seen the track.
    """
    per_tag = {
        tag: {"tracks": int(labels[:, at].sum()), "roc_auc": roc_auc, "pr_auc": pr_auc}
        for at, (tag, (roc_auc, pr_auc)) in enumerate(zip(tags, areas(labels, probabilities), strict=True))
    }
    groups = {}
    for group in TAG_GROUPS:
        inside = [at for at, tag in enumerate(tags) if tag[0] == group]
        if inside:
            figures = [per_tag[tags[at]] for at in inside]
            groups[group] = {
                "roc_auc": float(np.mean([figure["roc_auc"] for figure in figures])),
                "pr_auc": float(np.mean([figure["pr_auc"] for figure in figures])),
                "ece": calibration_error(labels[:, inside], probabilities[:, inside]),
                "tags": {tags[at][1]: per_tag[tags[at]] for at in inside},
            }
    return {"tracks": len(labels), "groups": groups}


def areas(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return ROC-AUC and PR-AUC (average precision) of each of T tags; their means are the macro figures.

    Args:
        labels: (N, T); each tag must be carried by some tracks and not by others.
        scores: (N, T).
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    return [
        (float(roc_auc_score(truth, said)), float(average_precision_score(truth, said)))
        for truth, said in zip(labels.T, scores.T, strict=True)
    ]


def reliability(labels: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """Return (mean probability, share that is true, count) of each tenth of probability that occurs."""
    cell = np.minimum((probabilities * _BINS).astype(int), _BINS - 1).ravel()
    flat, truth = probabilities.ravel(), labels.ravel()
    inside = [cell == number for number in range(_BINS)]
    return [(float(flat[b].mean()), float(truth[b].mean()), int(b.sum())) for b in inside if b.any()]


def calibration_error(labels: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> float:
    """Return the expected calibration error: mean gap of said and true share, weighted by count."""
    points = reliability(labels, probabilities)
    total = sum(count for _, _, count in points)
    return float(sum(abs(said - true) * count for said, true, count in points) / max(1, total))
