"""The figures: recall curves, recall bars, training curves; and those of `queries`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation.metrics import chance_curve, recall_curve
from components.evaluation.metrics_file import Metrics, Mode, RankMetrics
from components.evaluation.plots.queries import counterfactual, guidance, slices
from components.evaluation.retrieval import Ranking
from components.evaluation.run import Measured
from components.plot_style import COLOURS, INK, LABELS, QUIET, figure, log_ticks

TITLES = {
    ("track", "video_to_music"): "Track level, query to music",
    ("track", "music_to_video"): "Track level, music to query",
    ("segment", "video_to_music"): "Segment level, query to music",
    ("segment", "music_to_video"): "Segment level, music to query",
}


def draw_all(folder: Path, measured: Measured, history: Sequence[dict[str, Any]]) -> None:
    """Write the PNGs into ``folder``; those on words are left out where the pool has no texts."""
    recall_curves(folder / "recall_curves.png", measured)
    recall_bars(folder / "recall_bars.png", measured)
    training_curves(folder / "training_curves.png", history)
    slices(folder / "slices.png", measured.metrics)
    if measured.metrics.guidance:
        guidance(folder / "guidance.png", measured.metrics)
    if measured.metrics.counterfactual:
        counterfactual(folder / "counterfactual.png", measured)


def recall_curves(path: Path, measured: Measured) -> None:
    """Recall against k: the model solid, the oracle dashed, chance dotted; one panel per level."""
    pool = measured.metrics.pool.size
    with figure(path, 2, 11.5, 4.3) as (drawn, axes):
        for axis, level in zip(axes, ("track", "segment"), strict=True):
            shown = [r for r in measured.rankings if (r.level, r.direction) == (level, "video_to_music")]
            for ranking in shown:
                _curve(axis, recall_curve(ranking.rank, pool), COLOURS[ranking.mode], LABELS[ranking.mode])
                if level == "track" and ranking.mode in measured.oracle:
                    limit = recall_curve(measured.oracle[ranking.mode], pool)
                    _curve(axis, limit, COLOURS[ranking.mode], None, "--", 1.2)
            _curve(axis, chance_curve(pool, _positives(shown)), QUIET, "chance", ":", 1.6)
            if level == "track" and measured.oracle:
                axis.plot([], [], "--", color=INK, linewidth=1.2, label="oracle (limit)")
            axis.set(
                title=TITLES[level, "video_to_music"], xlabel="k (items shown)", ylabel="recall at k (share of queries)",
                xscale="log", ylim=(0, 1.02), xlim=(1, pool),
            )  # fmt: skip
            log_ticks(axis, pool)
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        drawn.suptitle(f"Share of queries whose track is among the first k of {pool}", x=0.01, ha="left")


def recall_bars(path: Path, measured: Measured) -> None:
    """R@10 with intervals, both levels and directions, against chance and the oracle."""
    metrics = measured.metrics
    pool, confidence = metrics.pool.size, metrics.pool.confidence
    with figure(path, 4, 12.0, 4.4) as (drawn, axes):
        for axis, (level, direction) in zip(axes, TITLES, strict=True):
            reached = _of(metrics, level, direction)
            for at, (mode, figures) in enumerate(reached.items()):
                r10 = figures.recall_at_10
                errors = [[max(0.0, r10.value - r10.low)], [max(0.0, r10.high - r10.value)]]
                axis.bar(at, r10.value, 0.62, color=COLOURS[mode], yerr=errors, capsize=4, ecolor=INK)
                axis.text(at, 1.06, f"{r10.value:.2f}", ha="center", va="bottom", color=COLOURS[mode], weight="bold")
                if (level, direction) == ("track", "video_to_music") and mode in metrics.oracle:
                    limit = metrics.oracle[mode].recall_at_10.value
                    axis.hlines(
                        limit, at - 0.42, at + 0.42, colors=INK, linewidth=2, label="oracle" if at == 0 else None
                    )
            shown = [r for r in measured.rankings if (r.level, r.direction) == (level, direction)]
            by_chance = chance_curve(pool, _positives(shown))[min(10, pool) - 1]
            axis.axhline(by_chance, color=QUIET, linestyle=":", linewidth=1.6, label="chance")
            axis.set_title(TITLES[level, direction].replace(", ", "\n"), pad=24)
            axis.set_ylim(0, 1.05)
            axis.set_xticks(range(len(reached)), [LABELS[mode].replace(" + ", "\n+ ") for mode in reached])
            axis.grid(axis="x", visible=False)
        axes[0].set_ylabel("R@10 (share of queries)")
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        drawn.suptitle(
            f"Recall at 10 of {pool} clips, whiskers: {confidence:.0%} bootstrap interval over artists",
            x=0.01,
            ha="left",
        )


def training_curves(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Loss, val recall and MRR, and the learnt temperature, against the optimiser step."""
    with figure(path, 3, 11.5, 3.8) as (_, axes):
        _series(axes[0], history, "loss", INK, None)
        axes[0].set(title="Training loss", ylabel="symmetric InfoNCE (nats)")
        for mode, colour in COLOURS.items():
            _series(axes[1], history, f"val/{mode}/R@10", colour, LABELS[mode])
        axes[1].set(title="Validation R@10", ylabel="share of val queries", ylim=(0, 1.02))
        if axes[1].lines:
            axes[1].legend(loc="lower right")
        _series(axes[2], history, "temperature", INK, None)
        axes[2].set(title="Learnt temperature", ylabel="temperature (divides the cosine)")
        for axis in axes:
            axis.set_xlabel("optimiser step")


def _curve(axis: Any, recall: Any, colour: str, label: str | None, line: str = "-", width: float = 2.2) -> None:
    axis.plot(np.arange(1, len(recall) + 1), recall, line, color=colour, linewidth=width, label=label)


def _of(metrics: Metrics, level: str, direction: str) -> dict[Mode, RankMetrics]:
    levels = {"track": metrics.track, "segment": metrics.segment}
    return levels[level].video_to_music if direction == "video_to_music" else levels[level].music_to_video


def _positives(rankings: Sequence[Ranking]) -> Any:
    return rankings[0].positives


def _series(axis: Any, history: Sequence[dict[str, Any]], name: str, colour: str, label: str | None) -> None:
    points = sorted((row["step"], row["value"]) for row in history if row["name"] == name)
    if points:
        axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, label=label)
