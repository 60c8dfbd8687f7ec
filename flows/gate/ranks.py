"""Ranks that are kept with a version: how it ranked the test clips, for as long as these and the ranking are the same.

A file among the artifacts of the version's run. The audit log has the digest of its bytes, so that whoever can write to
the store of artifacts cannot change what a champion is held to have reached.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from components.code import code_digest
from components.evaluation.metrics_file import Mode
from components.stage import write_json
from flows.gate.sides import Queries, Side
from flows.ledger.database import reading, transaction
from flows.ledger.lease import check
from flows.registry.tracking import answering
from flows.release import audit
from flows.release.evidence import FOLDER
from flows.release.table import Release
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient

RANKED: Final = "rank"
"""Action of the audit log's row that tells of ranks."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    clips: list[str]  # (Q,)
    ranks: dict[Mode, list[int]]  # (Q,) each
    top: dict[Mode, list[str]]
    coverage: dict[Mode, float]
    unread: dict[str, str]  # why, by clip id


def asked_of(release: Release, queries: Queries) -> str:
    """Return the name of a version's ranks: its files, the clips with their content and words, the pools, and our code."""
    content = {name: digest for name, digest in queries.data.items() if name.endswith("_content")}
    code = code_digest("flows.gate.judged", "flows.gate.evaluate:evaluate")
    told = [release.files, queries.clips, queries.number, queries.text_source, sorted(content.items()), code]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def recall(client: "MlflowClient", platform: Platform, release: Release, queries: Queries) -> Side | None:
    """Return how a version ranked these queries before; None where it has not, or the file is gone or was changed."""
    from mlflow.exceptions import MlflowException

    asked = asked_of(release, queries)
    with reading(platform) as connection:
        rows = [row.detail for row in audit.entries(connection, release.version) if row.action == RANKED]
    digests = [row["ranks"] for row in rows if row["asked"] == asked]
    if not digests:
        return None
    with tempfile.TemporaryDirectory() as scratch, answering(platform.tracking_uri):
        try:
            text = Path(client.download_artifacts(release.run_id, _path(asked), scratch)).read_bytes()
        except (MlflowException, OSError):
            return None
    if hashlib.sha256(text).hexdigest() != digests[-1]:
        return None
    kept = _Kept.model_validate_json(text)
    return Side(
        name=f"version {release.version}",
        ranks={mode: np.array(ranks, np.int64) for mode, ranks in kept.ranks.items()},
        top={mode: np.array(top) for mode, top in kept.top.items()},
        coverage=kept.coverage,
        unread=kept.unread,
    )


def keep(client: "MlflowClient", platform: Platform, release: Release, queries: Queries, side: Side) -> None:
    """Keep how a version ranked these queries, with its run; the audit log has the digest last, so it is never untrue."""
    asked = asked_of(release, queries)
    kept = _Kept(
        clips=list(queries.clips),
        ranks={mode: ranks.tolist() for mode, ranks in side.ranks.items()},
        top={mode: top.tolist() for mode, top in side.top.items()},
        coverage=dict(side.coverage),
        unread=dict(side.unread),
    )
    check()
    with tempfile.TemporaryDirectory() as scratch, answering(platform.tracking_uri):
        path = Path(scratch) / Path(_path(asked)).name
        write_json(path, kept.model_dump())
        client.log_artifact(release.run_id, str(path), FOLDER)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with transaction(platform) as connection:
        audit.append(connection, "gate", RANKED, release.version, {"asked": asked, "ranks": digest})


def _path(asked: str) -> str:
    return f"{FOLDER}/ranks-{asked[:12]}.json"
