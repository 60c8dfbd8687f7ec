"""All that a model card tells, collected: lineage, metrics, params, clips, and the gate's report."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.metrics_file import Metrics, MetricsError, read_metrics
from components.settings import PARAMS_FILE, read_params
from flows.errors import Refusal
from flows.gate.report import GateReport, read_report
from flows.lineage.chain import chain, release_of
from flows.lineage.naming import registry
from flows.release.clips import SEED, Row, read_clips
from flows.release.evidence import find_report
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient

METRICS = "evaluation/metrics.json"


@dataclass(frozen=True)
class Facts:
    """What is known of one version.

    Attributes:
        lineage: as `chain` gives it.
        metrics: the evaluation's metrics.json.
        params: params.yaml.
        rows: the version's clips; None where the run does not keep them.
        gate: the gate's report, by the digest that the ledger has; None before.
    """

    lineage: dict[str, Any]
    metrics: Metrics
    params: dict[str, Any]
    rows: list[Row] | None
    gate: GateReport | None

    @property
    def clips(self) -> list[Row]:
        """The clips of the corpus, without the tagger's seed library."""
        return [row for row in self.rows or () if row["split"] != SEED]

    def count(self, column: str) -> Counter[str]:
        """How many clips there are of each value of a column."""
        return Counter(str(row[column] or "not stated") for row in self.clips)


def collect(platform: Platform, model: str) -> Facts:
    """Collect the facts of a version.

    Raises:
        Refusal: there is no such version, its metrics cannot be read, or the registry does not answer.
    """
    lineage = chain(platform, model)
    run_id = lineage["run"]["id"]
    release = release_of(platform, lineage["version"])
    with registry(platform) as client, tempfile.TemporaryDirectory() as scratch:
        report = find_report(client, release) if release and release.evidence else None
        return Facts(
            lineage=lineage,
            metrics=_metrics(client, run_id, scratch),
            params=read_params(Path(client.download_artifacts(run_id, str(PARAMS_FILE), scratch))),
            rows=read_clips(client, run_id),
            gate=None if report is None else _gate(client, run_id, report, scratch),
        )


def _metrics(client: "MlflowClient", run_id: str, scratch: str) -> Metrics:
    try:
        return read_metrics(Path(client.download_artifacts(run_id, METRICS, scratch)), METRICS)
    except MetricsError as error:
        raise Refusal(f"run {run_id}: {error}") from None


def _gate(client: "MlflowClient", run_id: str, path: str, scratch: str) -> GateReport:
    return read_report(Path(client.download_artifacts(run_id, path, scratch)).read_bytes(), f"run {run_id}: {path}")
