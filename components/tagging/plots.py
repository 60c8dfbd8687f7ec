"""The tagger's reliability plot: are tags said at 60 % true six times in ten?"""

from pathlib import Path
from typing import Any

from components.modalities import TAG_GROUPS
from components.tagging.probe import Fit
from components.tagging.scores import reliability


def draw_reliability(fit: Fit, path: Path) -> None:
    """Draw said against true share per group, from tracks that were left out of the fit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(TAG_GROUPS), 4.6), layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(TAG_GROUPS), squeeze=False)[0]
    for panel, group in zip(panels, TAG_GROUPS, strict=True):
        inside = [at for at, tag in enumerate(fit.tagger.tags) if tag[0] == group]
        panel.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        title = f"{group}: no tag has enough tracks"
        if inside:
            points = reliability(fit.examples.labels[:, inside], fit.held_out[:, inside])
            said, true, counts = zip(*points, strict=True)
            panel.plot(said, true, color="#1f6f8b", linewidth=1)
            panel.scatter(said, true, s=[12 + 200 * count / max(counts) for count in counts], color="#1f6f8b", alpha=0.8)
            figures = fit.scores["groups"][group]
            title = f"{group}: ROC-AUC {figures['roc_auc']:.3f}, calibration error {figures['ece']:.3f}"
        panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability said", ylabel="share that is true", title=title)
        panel.set_aspect("equal")
    canvas.print_png(path, metadata={"Software": None})
