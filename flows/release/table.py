"""The ledger's table of releases, and a row of it as a value. The database itself allows one champion only."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from sqlalchemy import Column, Index, Integer, Table, Text
from sqlalchemy.engine import Row

from flows.ledger.database import TABLES
from flows.release.states import State

RELEASES: Final = Table(
    "releases",
    TABLES,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("run_id", "model", "index", "catalogue", "specs", "manifest")),
    *(Column(name, Text, nullable=False) for name in ("params", "code", "commit", "created", "files")),
    *(Column(name, Text) for name in ("evidence", "approved_by", "approved_at")),
    Column("against", Integer),  # the champion when it was evaluated last
    Column("promoted", Integer),  # 1, 2, 3, ... in the order of promotions
    Column("offered", Integer, nullable=False),  # audit row that made it the challenger
    Column("audited", Integer, nullable=False),  # audit row of its last change
)
Index(
    "one_champion",
    RELEASES.c.state,
    unique=True,
    sqlite_where=RELEASES.c.state == "champion",
    postgresql_where=RELEASES.c.state == "champion",
)


@dataclass(frozen=True)
class Release:
    """What is signed off together, and how far it got.

    Attributes:
        version: number of the MLflow model version.
        digest: content digest over all (`flows.registry.digest.Digests.content`).
        model: sha256 of the model's config.json, which holds that of the weights.
        index: sha256 over the files of the index.
        catalogue: sha256 of the catalogue's table.
        specs: extractor spec digest by modality.
        manifest: digest of the manifest, from dvc.lock.
        params: digest of params.yaml.
        code: digest of the components' code.
        commit: git commit of the training run.
        evidence: sha256 of the gate's report.json.
        approved_by: who approved it; None before, and after it is gated again.
        files: sha256 over every file of the logged model, its code too.
        against: the champion that the last evaluation was against; None where there was none.
        audited: the audit row of its last change.
    """

    version: int
    digest: str
    state: State
    run_id: str
    model: str
    index: str
    catalogue: str
    specs: dict[str, str]
    manifest: str
    params: str
    code: str
    commit: str
    evidence: str | None
    approved_by: str | None
    approved_at: str | None
    created: str
    files: str = ""
    against: int | None = None
    audited: int = 0

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def columns_of(release: Release) -> dict[str, Any]:
    """Return what a row holds of a release."""
    return release.as_json() | {"specs": json.dumps(release.specs, sort_keys=True)}


def release_of(row: Row[Any]) -> Release:
    """Return a row as a value."""
    values = {field.name: getattr(row, field.name) for field in fields(Release) if field.name != "index"}
    # A row is a tuple too, whose own `index` is a method.
    return Release(**values | {"index": row._mapping["index"], "specs": json.loads(row.specs)})
