"""The figures about queries: slices, the weight of the text, and another track's text."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation.metrics import chance_curve, recall_curve
from components.evaluation.metrics_file import FUSED, Interval, Metrics
from components.evaluation.run import Measured
from components.plot_style import COLOURS, INK, LABELS, OTHER, QUIET, figure, log_ticks

ROW_INCHES = 0.3


def slices(path: Path, metrics: Metrics) -> None:
    """R@10 of every slice with its interval, a panel per kind of slice, the whole pool as lines behind."""
    kinds = [(by, list(rows)) for by, rows in groupby(metrics.slices, key=lambda row: row.by)]
    whole = {mode: reached.recall_at_10.value for mode, reached in metrics.track.video_to_music.items()}
    if not kinds:
        kinds = [("none", [])]
    tallest = max(len(rows) for _, rows in kinds)
    with figure(path, len(kinds), 3.4 * len(kinds) + 1.6, 1.9 + ROW_INCHES * max(4, tallest)) as (drawn, axes):
        for axis, (by, rows) in zip(axes, kinds, strict=True):
            for mode, value in whole.items():
                axis.axvline(value, color=COLOURS[mode], linewidth=1.0, alpha=0.45, linestyle="--")
            for at, row in enumerate(rows):
                for beside, (mode, r10) in enumerate(row.recall_at_10.items()):
                    place = at + 0.2 * (beside - (len(row.recall_at_10) - 1) / 2)
                    if r10.low is not None:
                        axis.plot([r10.low, r10.high], [place, place], color=COLOURS[mode], linewidth=1.6)
                    axis.plot(r10.value, place, "o", color=COLOURS[mode], markersize=4.5)
            axis.set_yticks(range(len(rows)), [f"{row.name} ({row.queries})" for row in rows])
            axis.set(title=f"By {by}", xlabel="R@10 (share of queries)", xlim=(0, 1.02))
            axis.set_ylim(max(3, len(rows) - 1) + 0.6, -0.6)
            axis.grid(axis="y", visible=False)
        for mode in whole:
            axes[-1].plot([], [], "o-", color=COLOURS[mode], linewidth=1.6, markersize=4.5, label=LABELS[mode])
        axes[-1].plot([], [], "--", color=QUIET, linewidth=1.0, label="whole pool")
        drawn.legend(*axes[-1].get_legend_handles_labels(), loc="outside right center")
        drawn.suptitle(
            f"Recall at 10 of {metrics.pool.size} by slice (queries), bars: {metrics.pool.confidence:.0%} interval",
            x=0.01,
            ha="left",
        )


def guidance(path: Path, metrics: Metrics) -> None:
    """R@10 against the weight of the text, with the track's own text and with another track's."""
    rows = metrics.guidance
    weights = [row.weight for row in rows]
    lines: dict[str, tuple[tuple[Sequence[Interval | None], str, str], ...]] = {
        "Own text": (([row.own for row in rows], "the track of video and text", COLOURS["video+text"]),),
        "Another track's text": (
            ([row.donor for row in rows], "the text's track", OTHER),
            ([row.kept for row in rows], "the video's track", COLOURS["video"]),
        ),
    }
    with figure(path, 2, 10.5, 4.0) as (drawn, axes):
        for axis, (title, shown) in zip(axes, lines.items(), strict=True):
            for intervals, label, colour in shown:
                _banded(axis, weights, intervals, label, colour)
            axis.axhline(metrics.pool.chance.recall_at_10, color=QUIET, linestyle=":", linewidth=1.6, label="chance")
            axis.set(
                title=title, xlabel="weight of the text (0 video alone, 1 text alone)", xlim=(0, 1), ylim=(0, 1.02)
            )
        fused = metrics.track.video_to_music[FUSED].recall_at_10.value
        axes[0].axhline(fused, color=INK, linestyle="--", linewidth=1.2, label="the model's own fusion")
        axes[0].set_ylabel("R@10 (share of queries)")
        axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 0.1))
        axes[1].legend(loc="upper center")
        drawn.suptitle(
            f"Video and text embeddings mixed by weight, recall at 10 of {metrics.pool.size}", x=0.01, ha="left"
        )


def counterfactual(path: Path, measured: Measured) -> None:
    """Where the text's track and the video's track stand when a video is given another track's text."""
    ranking = next(ranking for ranking in measured.other_texts if ranking.donor_rank is not None)
    before, after, figures = ranking.donor_before, ranking.donor_rank, measured.metrics.counterfactual
    if before is None or after is None or figures is None:
        return
    pool = measured.metrics.pool.size
    with figure(path, 2, 10.5, 4.4) as (drawn, axes):
        axes[0].plot([1, pool], [1, pool], color=QUIET, linewidth=1.0)
        axes[0].plot(before, after, "o", color=OTHER, markersize=3.0, alpha=0.55, markeredgewidth=0)
        axes[0].set(
            title=f"The text's track rises for {figures.rises.value:.0%} of queries", xscale="log", yscale="log",
            xlabel="its rank for the video alone", ylabel="its rank for video and that text",
        )  # fmt: skip
        axes[0].text(0.03, 0.94, "below the line: the words pull it up", transform=axes[0].transAxes, color=INK)
        for rank, label, colour, line in (
            (after, "the text's track", OTHER, "-"), (before, "the same, video alone", OTHER, "--"),
            (ranking.rank, "the video's track", COLOURS["video"], "-"),
        ):  # fmt: skip
            axes[1].plot(
                np.arange(1, pool + 1), recall_curve(rank, pool), line, color=colour, linewidth=2.0, label=label
            )
        axes[1].plot(
            np.arange(1, pool + 1),
            chance_curve(pool, ranking.positives),
            ":",
            color=QUIET,
            linewidth=1.6,
            label="chance",
        )
        axes[1].set(
            title="Recall with another track's text", xscale="log", xlim=(1, pool), ylim=(0, 1.02),
            xlabel="k (items shown)", ylabel="recall at k (share of queries)",
        )  # fmt: skip
        axes[1].legend(loc="upper left")
        for axis, both in zip(axes, (True, False), strict=True):
            log_ticks(axis, pool, both)
        drawn.suptitle(
            f"The same videos with the texts of other tracks, {len(ranking.clips)} queries, pool of {pool}",
            x=0.01,
            ha="left",
        )


def _banded(axis: Any, x: Sequence[float], intervals: Sequence[Interval | None], label: str, colour: str) -> None:
    shown = [(at, one) for at, one in zip(x, intervals, strict=True) if one is not None]
    if shown:
        places = [at for at, _ in shown]
        low, high, value = ([getattr(one, end) for _, one in shown] for end in ("low", "high", "value"))
        axis.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
        axis.plot(places, value, "o-", color=colour, linewidth=2.0, markersize=4, label=label)
