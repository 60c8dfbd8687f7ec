"""The study's figures: bars for named rows, curves where the rows count something."""

from pathlib import Path

from components.evaluation.metrics_file import MODES
from components.plot_style import COLOURS, INK, LABELS, QUIET, figure
from research.tables import Study, TableRow


def draw(study: Study, docs: Path) -> dict[str, Path]:
    """Draw every table; return the files by the table's letter."""
    drawn = {}
    for letter, experiment in study.settings.experiments.items():
        rows = [row for row in study.tables[letter] if row.recall]
        path = docs / f"study-{letter.lower()}.png"
        if experiment.axis:
            _curves(study, rows, experiment.axis, path)
        else:
            _bars(study, rows, path)
        drawn[letter] = path
    return drawn


def _curves(study: Study, rows: list[TableRow], axis: str, path: Path) -> None:
    with figure(path, 1, 6.4, 3.6) as (_, (plot,)):
        for mode in MODES:
            shown = [(float(row.name), row.recall[mode][10]) for row in rows if mode in row.recall]
            x = [at for at, _ in shown]
            plot.plot(x, [r10.value for _, r10 in shown], "o-", color=COLOURS[mode], label=LABELS[mode])
            low, high = [r10.low for _, r10 in shown], [r10.high for _, r10 in shown]
            plot.fill_between(x, low, high, color=COLOURS[mode], alpha=0.15, linewidth=0)
            plot.axhline(study.limit(mode), color=COLOURS[mode], linestyle=":", linewidth=1)
        if x and min(x) > 0 and max(x) / min(x) > 10:
            plot.set_xscale("log")
            plot.set_xticks(x, [f"{at:g}" for at in x])
            plot.minorticks_off()
        plot.set(xlabel=axis, ylabel="R@10", ylim=(0, 1))
        plot.set_title("dotted: the oracle", fontsize=9, color=INK)
        plot.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _bars(study: Study, rows: list[TableRow], path: Path) -> None:
    with figure(path, len(MODES), 9.6, 0.9 + 0.34 * len(rows)) as (_, plots):
        for plot, mode in zip(plots, MODES, strict=True):
            shown = [(at, row.recall[mode][10]) for at, row in enumerate(rows) if mode in row.recall]
            values = [r10.value for _, r10 in shown]
            errors = [[r10.value - r10.low for _, r10 in shown], [r10.high - r10.value for _, r10 in shown]]
            places = [at for at, _ in shown]
            plot.barh(
                places, values, xerr=errors, color=COLOURS[mode], ecolor=INK, height=0.7, error_kw={"linewidth": 0.8}
            )
            plot.axvline(study.limit(mode), color=QUIET, linestyle=":", linewidth=1.2)
            plot.set_yticks(range(len(rows)), [row.name for row in rows] if plot is plots[0] else [""] * len(rows))
            plot.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xlabel="R@10")
            plot.set_title(LABELS[mode])
            plot.grid(axis="y", visible=False)
