"""The ledger on PostgreSQL: one champion, an append-only log, and writers that take turns."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from flows.environment import read_environment
from flows.ledger.database import transaction
from flows.ledger.errors import LedgerRefused
from flows.release.audit import Tampered
from flows.release.check import check
from flows.release.releases import add, champion, move
from flows.release.table import Release
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

pytestmark = pytest.mark.stack

EVIDENCE = "e" * 64
PROMOTE = """
import sys
from pathlib import Path
from flows.environment import read_environment
from flows.ledger.database import transaction
from flows.release.releases import StaleState, move
from flows.workspace.workspace import Workspace
try:
    with transaction(Platform(Workspace(Path.cwd()), read_environment())) as connection:
        move(connection, int(sys.argv[1]), "approved", "champion", "Bob", "better")
except StaleState:
    sys.exit(3)
"""


def _release(version: int) -> Release:
    words = dict.fromkeys(("run_id", "model", "index", "catalogue", "manifest", "params", "code", "commit"), "word")
    return Release(
        version, f"stack ledger {version}", "registered", specs={"music": "spec"}, evidence=None, approved_by=None,
        approved_at=None, created="2026-01-01T00:00:00+00:00", **words,
    )  # fmt: skip


def test_the_ledger_on_postgresql(on_stack: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A schema of its own: other tests' releases are in the stack's ledger, and this one tampers.
    url = on_stack["NEEDLEDROP_LEDGER_URL"]
    assert url.startswith("postgresql")
    apart = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3Dledger_test"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS ledger_test CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA ledger_test")
    monkeypatch.setenv("NEEDLEDROP_LEDGER_URL", apart)
    environment, workspace = read_environment(), Workspace(tmp_path)

    with transaction(Platform(workspace, environment)) as connection:
        for version in (1, 2, 3):
            add(connection, _release(version), "register")
            move(connection, version, "registered", "evaluated", "gate", "began")
            move(connection, version, "evaluated", "passed", "gate", "passed", EVIDENCE)
            move(connection, version, "passed", "approved", "Ada", "good")
    at_once = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE, str(version)],
            cwd=tmp_path,
            env=on_stack | {"NEEDLEDROP_LEDGER_URL": apart},
        )
        for version in (1, 2, 3)
    ]
    assert sorted(process.wait(120) for process in at_once) == [0, 3, 3]

    for statement in ("UPDATE audit SET actor = 'Eve'", "DELETE FROM audit WHERE number = 3", "TRUNCATE audit"):
        refused = pytest.raises(LedgerRefused, match="the audit log is append-only")
        with refused, transaction(Platform(workspace, environment)) as connection:
            connection.exec_driver_sql(statement)
    unique = pytest.raises(LedgerRefused, match="one_champion")
    with unique, transaction(Platform(workspace, environment)) as connection:
        connection.exec_driver_sql("UPDATE releases SET state = 'champion'")
    with transaction(Platform(workspace, environment)) as connection:
        assert check(connection) == 13
        assert champion(connection) is not None

    with transaction(Platform(workspace, environment)) as connection:
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        connection.exec_driver_sql("UPDATE audit SET actor = 'Eve' WHERE number = 4")
        connection.exec_driver_sql("ALTER TABLE audit ENABLE TRIGGER ALL")
    with (
        transaction(Platform(workspace, environment)) as connection,
        pytest.raises(Tampered, match=r"row 4 .*was changed"),
    ):
        check(connection)
