"""Any two versions or runs on one page, from the ranks that they logged: no gate, only the differences."""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from components.evaluation.metrics_file import MODES, Metrics, MetricsError, Mode, read_metrics
from flows.environment import redact
from flows.errors import Refusal
from flows.gate.report import Difference, Words
from flows.gate.settings import read_settings
from flows.gate.sides import Queries, Side
from flows.registry.tracking import MODEL, answering, connect, exists
from flows.release.mirror import RUN_TAG
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

RANKS: Final = "evaluation/ranks.parquet"
METRICS: Final = "evaluation/metrics.json"
_COLUMNS: Final = ["level", "direction", "mode", "clip_id", "rank", "pool", "pool_number", "top_clip_id"]


@dataclass(frozen=True)
class Comparison:
    """What was compared, and where the page is."""

    a: str
    b: str
    words: Words
    modes: dict[Mode, Difference]
    page: str
    report: str

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        modes = {mode: difference.model_dump() for mode, difference in self.modes.items()}
        return vars(self) | {"words": self.words.model_dump(), "modes": modes}

    def sentence(self) -> str:
        """As a person would say it."""
        return f"{self.words.headline}. {self.words.found}\nreport: {self.page}"


@dataclass(frozen=True)
class Logged:
    """A run's ranks: of each query mode, by clip id."""

    name: str
    ranks: dict[Mode, dict[str, tuple[int, str]]]
    number: dict[str, int]
    pool: int
    metrics: Metrics
    facts: dict[str, str]


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
    from flows.gate.excerpts import excerpts
    from flows.gate.verdict import make_report

    queries = _queries(platform.workspace, ours)
    sides, made = [_side(one, queries) for one in (ours, theirs)], datetime.now(UTC).isoformat(timespec="seconds")
    report = make_report(queries, sides[0], sides[1], "comparison", settings, made)
    page = (out or platform.workspace.reports / f"compare-{a}-{b}.html").resolve()
    beside = page.with_suffix(".json")
    write(beside, page, report, excerpts(report.examples, platform.workspace.root, settings.media_mib))
    return Comparison(ours.name, theirs.name, report.words, report.modes, str(page), str(beside))


def read_logged(client: "MlflowClient", uri: str, word: str) -> Logged:
    """Return the ranks of a version or run.

    Raises:
        Refusal: there is none, or its run holds no ranks.
    """
    import mlflow
    import pyarrow.parquet as pq
    from mlflow.exceptions import MlflowException

    run_id, name = _run_of(client, uri, word)
    with answering(uri), tempfile.TemporaryDirectory() as scratch:
        try:
            ranks, metrics = (
                Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=scratch, tracking_uri=uri))
                for path in (RANKS, METRICS)
            )  # fmt: skip
            rows = pq.ParquetFile(ranks).read(columns=_COLUMNS).to_pylist()
            known = read_metrics(metrics, METRICS)
        except MetricsError as error:
            raise Refusal(f"{name}: its run {run_id} cannot be compared: {error}") from None
        except (MlflowException, OSError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise Refusal(f"{name}: its run {run_id} has no ranks to compare ({RANKS}: {said})") from None
        tags = client.get_run(run_id).data.tags
    kept = [
        row for row in rows if (row["level"], row["direction"]) == ("track", "video_to_music") and row["mode"] in MODES
    ]
    if not kept:
        raise Refusal(f"{name}: {RANKS} of its run has no ranks of whole tracks, video to music")
    ranked: dict[Mode, dict[str, tuple[int, str]]] = {}
    for row in kept:
        ranked.setdefault(row["mode"], {})[row["clip_id"]] = row["rank"], row["top_clip_id"]
    facts = {"run": run_id, "commit": tags.get("mlflow.source.git.commit", "unknown")}
    facts |= {
        part: tags[f"needledrop.{part}"]
        for part in ("digest", "manifest", "params", "code")
        if f"needledrop.{part}" in tags
    }
    number = {row["clip_id"]: row["pool_number"] for row in kept}
    return Logged(name, ranked, number, kept[0]["pool"], known, facts)


def require_same_queries(ours: Logged, theirs: Logged) -> None:
    """Refuse ranks that cannot be compared, and say what differs.

    Raises:
        Refusal: queries, pools or texts differ.
    """
    mine, other = set(ours.number), set(theirs.number)
    both = len(mine & other)
    reasons = []
    if mine != other:
        reasons.append(f"{len(mine)} and {len(other)} queries, {both} of them in both")
    if ours.pool != theirs.pool:
        reasons.append(f"pools of {ours.pool} and {theirs.pool}")
    elif mine == other and ours.number != theirs.number:
        reasons.append("the same queries in other pools")
    sources = [logged.metrics.pool.text_source for logged in (ours, theirs)]
    if sources[0] != sources[1]:
        reasons.append(f"texts are {sources[0]} and {sources[1]}")
    if reasons:
        raise Refusal(
            f"{ours.name} and {theirs.name} were not asked the same: {'; '.join(reasons)}; ranks of different pools cannot be "
            "compared: `needledrop gate` evaluates both on the test set of today"
        )


def _run_of(client: "MlflowClient", uri: str, word: str) -> tuple[str, str]:
    """Return the run of a version's number or of a run's id, and what to call it."""
    from mlflow.exceptions import MlflowException

    with answering(uri):
        versions = {int(one.version): one for one in client.search_model_versions(f"name = '{MODEL}'")}
    if word.isdecimal() and len(word) < 10:
        if int(word) not in versions:
            there = f"; there is {', '.join(map(str, sorted(versions)))}" if versions else ""
            raise Refusal(f"there is no version {word} at {redact(uri)}{there}")
        version = versions[int(word)]
        return version.tags.get(RUN_TAG) or str(version.run_id), f"version {word}"
    if not (word.isalnum() and word.isascii()):
        raise Refusal(f"{word!r} is neither a version's number nor a run's id")
    try:
        return str(client.get_run(word).info.run_id), f"run {word[:8]}"
    except MlflowException:
        raise Refusal(f"there is no run {word} at {redact(uri)}; its id stands on the run's page") from None


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
    from flows.gate.statistics import labels_of
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
    modes = {mode: ranked for mode, ranked in logged.ranks.items() if set(ranked) == set(queries.clips)}
    return Side(
        name=logged.name,
        ranks={mode: np.array([ranked[clip][0] for clip in queries.clips]) for mode, ranked in modes.items()},
        top={mode: np.array([ranked[clip][1] for clip in queries.clips]) for mode, ranked in modes.items()},
        coverage={mode: share for mode, share in logged.metrics.coverage.by_mode().items() if mode in modes},
        facts=logged.facts,
    )
