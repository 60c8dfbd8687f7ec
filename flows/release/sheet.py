"""What a version's page in MLflow says, in Markdown: state and verdict, what it reaches, who approved it; digests come last.

The figures are those of the version's run, so the page says what a comparison of runs says.
"""

import html
from typing import TYPE_CHECKING, Final

from components.evaluation.metrics_file import MODES
from flows.ledger.database import reading
from flows.registry.names import metric
from flows.release import audit
from flows.release.approvals import approvals
from flows.release.evidence import find_report, page_of
from flows.release.states import VERDICTS
from flows.release.table import Release
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run

_REACHED: Final = "track.video_to_music.{}.R@10"
_GAINED: Final = "gate/{}"
_GAP: Final = "\N{NO-BREAK SPACE}" * 4


def run_of(client: "MlflowClient", release: Release) -> "Run | None":
    """Return the run of a version; None where it is gone for good."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(release.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def sheet(client: "MlflowClient", platform: Platform, release: Release, run: "Run | None") -> str:
    """Return the page's text.

    Args:
        client: of MLflow.
        platform: where the ledger is.
        release: of the version.
        run: of the version; without it there are no figures and no link.
    """
    with reading(platform) as connection:
        given = approvals(connection, release.version)
        moves = [entry for entry in audit.entries(connection, release.version) if "to" in entry.detail]
    last = moves[-1]
    said = f"**{release.state.replace('_', ' ').capitalize()}** since {last.at} ({_plain(last.actor)})."
    parts = [f"{said} {_plain(last.detail['reason'])}" if last.detail.get("reason") else said]
    against = f"champion version {release.against}" if release.against else "the floors of a first champion"
    if run is not None:
        parts += _reached(run.data.metrics, f"version {release.against}" if release.against else "CCA")
    parts += [f"Approved by **{_plain(one.by)}** at {one.at}: {_plain(one.why)}" for one in given]
    if release.evidence:
        report = find_report(client, release) if run is not None else None
        link = "Gate report"
        if run is not None and report is not None:
            where = f"#/experiments/{run.info.experiment_id}/runs/{release.run_id}/artifacts/"
            link = f"[Gate report]({where}{page_of(report)})"
        judged = next((entry for entry in reversed(moves) if entry.detail["to"] in VERDICTS), None)
        verdict = f": {judged.detail['to']}" if judged else ""
        parts.append(f"{link}{verdict}, against {against}.")
    return "\n\n".join([*parts, _digests(release)])


def _plain(text: str) -> str:
    """What a person wrote, to be shown as it is: MLflow would take `<x>` for HTML and leave it out."""
    return html.escape(text, quote=False)


def _reached(figures: "Mapping[str, float]", other: str) -> list[str]:
    """Return a table of R@10 by query mode, and of what the gate found beside it, where there is any."""
    rows = []
    gated = any(metric(_GAINED.format(mode)) + ".value" in figures for mode in MODES)
    for mode in MODES:
        name, gain = metric(_REACHED.format(mode)), metric(_GAINED.format(mode))
        if name not in figures:
            continue
        cells = [mode, f"**{figures[name]:.3f}**", _interval(figures, name, "{:.3f}", 1)]
        if gated:
            value = figures.get(f"{gain}.value")
            cells += ["" if value is None else f"{100 * value:+.1f}", _interval(figures, gain, "{:+.1f}", 100)]
        rows.append(_row(cells))
    if not rows:
        return []
    titles = ["query", "R@10", "interval"] + ([f"points more than {other}", "interval"] if gated else [])
    lines = [_row(titles), f"|---|{'---:|' * (len(titles) - 1)}", *rows]
    queries, pool, chance = (figures.get(metric(f"pool.{name}")) for name in ("queries", "size", "chance.R@10"))
    if None in (queries, pool, chance):
        return ["\n".join(lines)]
    return [
        "\n".join(lines),
        f"Video to music, {queries:,.0f} queries in a pool of {pool:,.0f}; chance R@10 {chance:.3f}.",
    ]


def _row(cells: list[str]) -> str:
    """Return a row of a table; MLflow's page puts cells side by side without a gap."""
    return "".join(f"| {cell}{_GAP} " for cell in cells) + "|"


def _interval(figures: "Mapping[str, float]", name: str, form: str, times: int) -> str:
    low, high = figures.get(f"{name}.low"), figures.get(f"{name}.high")
    if (low, high) == (-1.0, 1.0):
        return "none: too few artists"
    return "" if low is None or high is None else f"{form.format(times * low)} to {form.format(times * high)}"


def _digests(release: Release) -> str:
    """Return what the version is made of, and what was judged, in one table."""
    named = {
        "content": release.digest,
        "model": release.model,
        "index": release.index,
        "data": release.manifest,
        "params": release.params,
        "code": release.code,
        "commit": release.commit,
        "gate report": release.evidence,
    }
    rows = [f"| {name}{_GAP} | `{digest}` |" for name, digest in named.items() if digest]
    return "\n".join(["| digest of | sha256, or as git and DVC have it |", "|---|---|", *rows])
