"""The audit log: the database refuses to change it, and who changes it all the same is found out."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flows.environment import Environment
from flows.ledger.database import transaction
from flows.ledger.errors import LedgerRefused
from flows.release import audit
from flows.release.audit import Tampered
from flows.release.check import check
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

from .releases_of import approved, crown

NOWHERE = Environment(ledger_url=None)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Version 1 is champion; the log has five rows."""
    made = Workspace(tmp_path)
    with transaction(Platform(made, NOWHERE)) as connection:
        approved(connection, 1)
        crown(connection, 1)
        assert check(connection) == 5
    yield made


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'Eve' WHERE number = 3",
        "DELETE FROM audit WHERE number = 5",
        "INSERT OR REPLACE INTO audit SELECT number, at, 'Eve', action, version, detail, before, hash FROM audit",
    ],
)
def test_the_database_only_lets_rows_be_added(workspace: Workspace, statement: str) -> None:
    refused = pytest.raises(LedgerRefused, match="the audit log is append-only; nothing was changed")
    with refused, transaction(Platform(workspace, NOWHERE)) as connection:
        connection.exec_driver_sql(statement)
    with transaction(Platform(workspace, NOWHERE)) as connection:
        assert check(connection) == 5


def test_a_champion_is_alone_by_the_database_too(workspace: Workspace) -> None:
    with transaction(Platform(workspace, NOWHERE)) as connection:
        approved(connection, 2)
    refused = pytest.raises(LedgerRefused, match=r"UNIQUE.*releases\.state")
    with refused, transaction(Platform(workspace, NOWHERE)) as connection:
        connection.exec_driver_sql("UPDATE releases SET state = 'champion' WHERE version = 2")


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE audit SET actor = 'Eve' WHERE number = 4", r"row 4 \(move, 20.*was changed"),
        ("UPDATE audit SET detail = replace(detail, 'good', 'bad') WHERE number = 4", "row 4 .*was changed"),
        ("UPDATE audit SET at = '2020-01-01T00:00:00+00:00' WHERE number = 1", "row 1 .*was changed"),
        ("UPDATE audit SET before = hash WHERE number = 3", "row 3 .*was changed"),
        ("DELETE FROM audit WHERE number = 1", "row 1 is missing"),
        ("DELETE FROM audit WHERE number IN (2, 4)", "row 2 is missing"),
        ("UPDATE audit SET number = number + 10 WHERE number = 3", "row 3 is missing"),
        ("DELETE FROM audit WHERE number > 3", "row 4 is missing: the log was cut off at its end"),
        ("DELETE FROM audit", "row 1 is missing: the log was cut off at its end"),
        ("UPDATE releases SET state = 'approved'", "release 1 is approved, but the audit log says champion"),
        ("DELETE FROM releases", "release 1 is missing, but the audit log knows it"),
        ("UPDATE releases SET evidence = 'another'", "release 1: its evidence is not what the audit log says"),
        ("UPDATE releases SET \"index\" = 'another'", "release 1: its index is not what the audit log says"),
    ],
)
def test_what_was_tampered_with_is_named(workspace: Workspace, statement: str, found: str) -> None:
    with closing(sqlite3.connect(workspace.ledger)) as connection:
        for trigger in ("audit_update", "audit_delete", "audit_replace"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement)
        connection.commit()
    with transaction(Platform(workspace, NOWHERE)) as connection, pytest.raises(Tampered, match=found):
        check(connection)


def test_a_row_sealed_anew_breaks_the_next_one(workspace: Workspace) -> None:
    with closing(sqlite3.connect(workspace.ledger)) as raw:
        raw.execute("DROP TRIGGER audit_update")
        raw.row_factory = sqlite3.Row
        row = dict(raw.execute("SELECT * FROM audit WHERE number = 4").fetchone()) | {"actor": "Eve"}
        written = {name: row[name] for name in ("number", "at", "actor", "action", "version", "detail")}
        raw.execute("UPDATE audit SET actor = 'Eve', hash = ? WHERE number = 4", (audit._seal(row["before"], written),))
        raw.commit()
    with transaction(Platform(workspace, NOWHERE)) as connection, pytest.raises(Tampered, match=r"row 5 .*was changed"):
        audit.verify(connection)


def test_times_are_utc_and_rows_are_numbered(workspace: Workspace) -> None:
    with transaction(Platform(workspace, NOWHERE)) as connection:
        rows = audit.entries(connection)
        assert [row.number for row in rows] == [1, 2, 3, 4, 5]
        assert all(row.at.endswith("+00:00") for row in rows)
        assert audit.entries(connection, version=2) == []
