"""The tagger's reliability plot: are tags said at 60 % true six times in ten?"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.modalities import TAG_GROUPS
from components.tagging.scores import reliability
from components.taxonomy import Tag

_BLUE = "#1f6f8b"
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(TAG_GROUPS), 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(TAG_GROUPS), squeeze=False)[0]
    for panel, group in zip(panels, TAG_GROUPS, strict=True):
        inside = [at for at, tag in enumerate(tags) if tag[0] == group]
        panel.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        title = f"{group}\nno tag has enough tracks"
        if inside:
            points = reliability(labels[:, inside], said[:, inside])
            firm = [(said, true) for said, true, count in points if count >= _FIRM]
            loose = [(said, true) for said, true, count in points if count < _FIRM]
            if firm:
                panel.plot(*zip(*firm, strict=True), color=_BLUE, marker="o", linewidth=1)
            if loose:
                panel.scatter(
                    *zip(*loose, strict=True), facecolors="none", edgecolors=_BLUE, label=f"fewer than {_FIRM} tags"
                )
                panel.legend(loc="lower right", frameon=False)
            figures = scores["groups"][group]
            title = f"{group}\nROC-AUC {figures['roc_auc']:.3f}, calibration error {figures['ece']:.3f}"
        panel.set(
            xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="probability said", ylabel="share that is true", title=title
        )
        panel.set_box_aspect(1)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})  # lays out before it draws
    return picture.getvalue()
