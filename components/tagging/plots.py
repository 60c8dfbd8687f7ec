"""The tagger's reliability plot: are tags said at 60 % true six times in ten?"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.modalities import TAG_GROUPS
from components.plot_style import QUIET, SUBJECT, figure
from components.tagging.scores import reliability
from components.taxonomy import Tag

_FIRM = 15  # tags in a tenth of probability from which its share means something


def draw_reliability(
    tags: Sequence[Tag], labels: NDArray[np.bool_], said: NDArray[np.float64], scores: Mapping[str, Any]
) -> bytes:
    """Return a PNG of said against true share per group, from tracks that were left out of the fit.

    Args:
        tags: T tags.
        labels: (N, T).
        said: (N, T) probabilities.
        scores: their figures, of ``score_tags``.
    """
    picture = io.BytesIO()
    with figure(picture, len(TAG_GROUPS), 4.5 * len(TAG_GROUPS), 5.0) as (_, panels):
        for panel, group in zip(panels, TAG_GROUPS, strict=True):
            inside = [at for at, tag in enumerate(tags) if tag[0] == group]
            panel.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
            title = f"{group.capitalize()}\nno tag has enough tracks"
            if inside:
                _points(panel, labels[:, inside], said[:, inside])
                figures = scores["groups"][group]
                title = (
                    f"{group.capitalize()}\nROC-AUC {figures['roc_auc']:.3f}, calibration error {figures['ece']:.3f}"
                )
            ends = (-0.03, 1.03)
            panel.set(xlim=ends, ylim=ends, xlabel="probability said", ylabel="share that is true", title=title)
            panel.set_box_aspect(1)
    return picture.getvalue()


def _points(panel: Any, labels: NDArray[np.bool_], said: NDArray[np.float64]) -> None:
    """Draw the tenths of probability: as a curve where they hold enough tags, as rings where not."""
    points = reliability(labels, said)
    firm = [(said, true) for said, true, count in points if count >= _FIRM]
    loose = [(said, true) for said, true, count in points if count < _FIRM]
    if firm:
        panel.plot(*zip(*firm, strict=True), color=SUBJECT, marker="o", linewidth=1.6)
    if loose:
        rings = {"facecolors": "none", "edgecolors": SUBJECT, "label": f"fewer than {_FIRM} tags"}
        panel.scatter(*zip(*loose, strict=True), **rings)
        panel.legend(loc="lower right")
