"""The gate's report among a run's artifacts, found by its digest: approval is of that very file."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.release.table import Release

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER: Final = "gate"
"""Artifact folder of the version's run that holds reports, at any depth: a version may be gated again."""
REPORT: Final = "report.json"
PAGE: Final = "report.html"


def find_report(client: "MlflowClient", release: Release) -> str | None:
    """Return the artifact path of the report whose sha256 is the release's evidence; None where there is none."""
    with tempfile.TemporaryDirectory() as scratch:
        for path in _files(client, release.run_id, FOLDER):
            if path.rpartition("/")[2] == REPORT:
                local = Path(client.download_artifacts(release.run_id, path, scratch))
                if hashlib.sha256(local.read_bytes()).hexdigest() == release.evidence:
                    return path
    return None


def page_of(report: str) -> str:
    """Return the artifact path of the HTML page beside a report."""
    return report.removesuffix(REPORT) + PAGE


def _files(client: "MlflowClient", run_id: str, folder: str) -> Iterator[str]:
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from _files(client, run_id, item.path)
        else:
            yield item.path
