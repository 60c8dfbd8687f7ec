"""The ranks that a version's or a run's evaluation logged."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.evaluation.metrics_file import Metrics, MetricsError, read_metrics
from flows.environment import redact
from flows.errors import Refusal
from flows.gate.sides import MODES
from flows.registry.tracking import MODEL, answering
from flows.release.mirror import RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

RANKS, METRICS = "evaluation/ranks.parquet", "evaluation/metrics.json"
_COLUMNS = ["level", "direction", "mode", "clip_id", "rank", "pool", "pool_number", "top_clip_id"]


@dataclass(frozen=True)
class Logged:
    """A run's ranks: of each query mode, by clip id."""

    name: str
    ranks: dict[str, dict[str, tuple[int, str]]]
    number: dict[str, int]
    pool: int
    metrics: Metrics
    facts: dict[str, str]


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
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for row in kept:
        found.setdefault(row["mode"], {})[row["clip_id"]] = row["rank"], row["top_clip_id"]
    facts = {"run": run_id, "commit": tags.get("mlflow.source.git.commit", "unknown")}
    facts |= {
        part: tags[f"needledrop.{part}"]
        for part in ("digest", "manifest", "params", "code")
        if f"needledrop.{part}" in tags
    }
    return Logged(
        name, found, {row["clip_id"]: row["pool_number"] for row in kept}, kept[0]["pool"], known, facts
    )  # fmt: skip


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
