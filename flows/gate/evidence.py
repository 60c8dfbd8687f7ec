"""The evidence of a gate: its files, beside the version's run in MLflow, and recalled by a key.

The key names what a verdict follows from (both models, test set, settings, code). Where a version carries the
key already, its report is the evidence, and nothing is computed or written anew.
"""

import hashlib
import json
import os
import platform
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.code import code_digest
from components.stage import atomic_file, write_json
from flows.errors import Refusal
from flows.gate.excerpts import Excerpts
from flows.gate.page import render
from flows.gate.report import GateReport, read_report
from flows.ledger.lease import check
from flows.registry.names import metric
from flows.registry.tracking import MODEL, answering
from flows.release.evidence import FOLDER, PAGE, REPORT

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERDICT_TAG: Final = "needledrop.gate"
KEY_TAG: Final = "needledrop.gate.key"
EVIDENCE_TAG: Final = "needledrop.gate.evidence"
_DAY: Final = timedelta(days=1)


def key_of(challenger: str, champion: str | None, test_digest: str, settings_digest: str) -> str:
    """Return the name of a verdict; the code that judges is part of it."""
    code = code_digest("flows.gate.evaluate", "flows.gate.judged", "flows.gate.verdict:make_report")
    told = json.dumps([challenger, champion, test_digest, settings_digest, code])
    return hashlib.sha256(told.encode()).hexdigest()


def this_machine() -> str:
    """Return a digest that tells machines apart on which times differ; it tells nothing about them."""
    told = [platform.node(), platform.machine(), platform.processor(), os.cpu_count()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def holds(report: GateReport, machine: str, now: datetime) -> bool:
    """Return whether a verdict says as much today: times are those of one machine, and of one day.

    One that lies ahead was dated by a clock that has been put back since; its age is not known.
    """
    if not any(check.key == "latency" for check in report.checks):
        return True
    age = now - datetime.fromisoformat(report.provenance.made)
    return report.provenance.machine == machine and timedelta(0) <= age < _DAY


def folder_of(evidence: str) -> str:
    """Return the artifact folder of a report: a version that is gated twice keeps both."""
    return f"{FOLDER}/{evidence[:12]}"


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(report_file: Path, page_file: Path, report: GateReport, media: Excerpts) -> None:
    """Write a report and its page."""
    write_json(report_file, report.as_json())
    with atomic_file(page_file) as part:
        part.write_text(render(report, media), encoding="utf-8")


def recall(client: "MlflowClient", uri: str, number: int, run_id: str, key: str, folder: Path) -> GateReport | None:
    """Return the report that a version has for a key, its files now in ``folder``; None where it has none.

    Raises:
        Refusal: the report is not the one that was logged, or is of another version of the platform.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    with answering(uri):
        tags = client.get_model_version(MODEL, str(number)).tags
    evidence = tags.get(EVIDENCE_TAG, "")
    if tags.get(KEY_TAG) != key or not evidence:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            place = Path(mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=folder_of(evidence), dst_path=scratch, tracking_uri=uri
            ))  # fmt: skip
            files = {name: (place / name).read_bytes() for name in (REPORT, PAGE)}
        except (MlflowException, OSError):
            return None  # gone: it is made again
    if hashlib.sha256(files[REPORT]).hexdigest() != evidence:
        raise Refusal(
            f"the gate's report of version {number} in MLflow run {run_id} is not the one that was logged; "
            "find out who changed it, then delete the version's tag "
            f"{KEY_TAG} to gate it anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return read_report(files[REPORT], f"the gate's report of version {number}")


def log(client: "MlflowClient", uri: str, number: int, run_id: str, folder: Path, report: GateReport) -> None:
    """Log the files to the version's run, then tag the version: the key comes last, so it never lies."""
    evidence = sha256(folder / REPORT)
    check()
    with answering(uri):
        for name in (PAGE, REPORT):
            client.log_artifact(run_id, str(folder / name), folder_of(evidence))
        for name, value in figures(report).items():
            client.log_metric(run_id, name, value)
        tags = {VERDICT_TAG: report.verdict, EVIDENCE_TAG: evidence, KEY_TAG: report.provenance.key}
        for tag, text in tags.items():
            client.set_model_version_tag(MODEL, str(number), tag, text)


def figures(report: GateReport) -> dict[str, float]:
    """Return the few metrics that runs are compared by."""
    metrics: dict[str, float] = {}
    for mode, difference in report.modes.items():
        for end in ("value", "low", "high"):
            metrics[metric(f"gate/{mode}.{end}")] = getattr(difference, end)
    if report.detectable is not None:
        metrics["gate/detectable"] = report.detectable
    return metrics
