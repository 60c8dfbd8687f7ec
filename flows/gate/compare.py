"""Any two versions or runs on one page, from the ranks that they logged: no gate, only the differences."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from flows.errors import Refusal
from flows.gate.logged import Logged, read_logged, require_same_queries
from flows.gate.settings import read_settings
from flows.gate.sides import Queries, Side
from flows.registry.tracking import connect, exists
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace


@dataclass(frozen=True)
class Comparison:
    """What was compared, and where the page is."""

    a: str
    b: str
    words: dict[str, str]
    modes: dict[str, dict[str, float]]
    page: str
    report: str

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def sentence(self) -> str:
        """As a person would say it."""
        return f"{self.words['headline']}. {self.words['found']}\nreport: {self.page}"


def compare(platform: Platform, a: str, b: str, out: Path | None) -> Comparison:
    """Compare two runs that were asked the same queries, and write the page.

    Args:
        platform: where MLflow is.
        a: number of a model version, or id of a run.
        b: what it is held against.
        out: where the page goes, its JSON beside it; default: the workspace's reports.

    Raises:
        Refusal: one of them is not there or has no ranks, or they were asked other queries.
    """
    settings = read_settings(platform.workspace.root)
    if not exists(platform):
        raise Refusal("nothing is registered yet; run `needledrop retrain` first")
    client = connect(platform, patient=False)
    ours, theirs = (read_logged(client, platform.tracking_uri, word) for word in (a, b))
    require_same_queries(ours, theirs)
    from flows.gate.evidence import write
    from flows.gate.judge import judge
    from flows.gate.media import embedded

    queries = _queries(platform.workspace, ours)
    try:
        report = judge(queries, _side(ours, queries), _side(theirs, queries), "comparison", settings)
    except ValueError as error:
        raise Refusal(f"{ours.name} and {theirs.name} cannot be compared: {error}") from None
    report["provenance"] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "seed": settings.seed, "resamples": settings.resamples,
    }  # fmt: skip
    page = (out or platform.workspace.reports / f"compare-{a}-{b}.html").resolve()
    beside = page.with_suffix(".json")
    write(beside, page, report, embedded(report, platform.workspace.root, settings.media_mib))
    return Comparison(ours.name, theirs.name, report["words"], report["modes"], str(page), str(beside))


def _queries(workspace: Workspace, logged: Logged) -> Queries:
    """Return the queries, with artists and slices from the workspace where it knows every clip."""
    clips = sorted(logged.number)
    known = _known(workspace, clips)
    return Queries(
        clips=tuple(clips),
        number=tuple(logged.number[clip] for clip in clips),
        pool=logged.pool,
        chance=logged.metrics.pool.chance.recall_at_10,
        text_source=logged.metrics.pool.text_source,
        **known,
    )


def _known(workspace: Workspace, clips: list[str]) -> dict[str, Any]:
    from components import tables
    from components.evaluation.clusters import clusters_of
    from components.params import read_all
    from components.settings import PARAMS_FILE
    from flows.gate.slices import labels_of
    from flows.workspace.graph import load_graph

    graph = load_graph(workspace.root)
    try:
        paths = {name: workspace.root / path for name, path in graph["evaluation"].arguments.items()}
        manifest = {row["clip_id"]: row for row in tables.read_rows(paths["manifest"], tables.MANIFEST)}
        tags = {row["clip_id"]: row["tags"] for row in tables.read_rows(paths["tags"], tables.TAGS)}
    except (ValueError, OSError):
        manifest, tags = {}, {}
    if not all(clip in manifest for clip in clips):
        # Each its own cluster: all that can be said, and the page says it.
        return {
            "clusters": tuple(clips),
            "data": {"clusters_by": "query; artists are unknown here, so intervals may be too narrow"},
        }
    rows = [manifest[clip] for clip in clips]
    section = read_all(workspace.root / PARAMS_FILE).evaluation
    return {
        "clusters": tuple(clusters_of(rows)),
        "data": {"clusters_by": "artist"},
        "labels": labels_of(rows, tags, section.length_edges_s),
        "rows": {row["clip_id"]: row for row in rows},
    }


def _side(logged: Logged, queries: Queries) -> Side:
    modes = {mode: found for mode, found in logged.ranks.items() if set(found) == set(queries.clips)}
    return Side(
        name=logged.name,
        ranks={mode: np.array([found[clip][0] for clip in queries.clips]) for mode, found in modes.items()},
        top={mode: np.array([found[clip][1] for clip in queries.clips]) for mode, found in modes.items()},
        coverage={str(mode): share for mode, share in logged.metrics.coverage.by_mode().items() if mode in modes},
        facts=logged.facts,
    )
