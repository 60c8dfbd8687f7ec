"""The ledger on PostgreSQL: one champion, an append-only log, and writers that take turns."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InternalError, ProgrammingError

from flows.environment import Environment, read_environment
from flows.ledger import database
from flows.ledger.database import reading, transaction
from flows.ledger.errors import CommitUnknown, LedgerAway, LedgerBusy, LedgerDenied, LedgerNewer, LedgerRefused
from flows.ledger.migrate import HEAD, VERSION_TABLE
from flows.release.audit import Tampered
from flows.release.check import check
from flows.release.releases import add, champion, move
from flows.release.table import Release
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from infra.state import State
from tests.ledger import first_release
from tests.stack.fault_proxy import SilentProxy

pytestmark = pytest.mark.stack

EVIDENCE = "e" * 64
PROMOTE = """
import sys
from pathlib import Path
from flows.environment import read_environment
from flows.ledger.database import transaction
from flows.release.releases import StaleState, move
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
try:
    with transaction(Platform(Workspace(Path.cwd()), read_environment())) as connection:
        move(connection, int(sys.argv[1]), "approved", "champion", "Bob", "better")
except StaleState:
    sys.exit(3)
"""


# Uses the ledger; killed -9 just before the statement of the given number.
KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from flows.environment import read_environment
from flows.ledger.database import transaction
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
left = int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def count(connection, cursor, statement, *_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

with transaction(Platform(Workspace(Path(sys.argv[1])), read_environment())):
    pass
"""

# Goes into the ledger, says so, and waits for a second.
SUSPENDED = """
import sys, time
from pathlib import Path
from flows.environment import read_environment
from flows.ledger import database
from flows.ledger.errors import LedgerError
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
try:
    with getattr(database, sys.argv[2])(Platform(Workspace(Path(sys.argv[1])), read_environment())) as connection:
        connection.exec_driver_sql("SELECT count(*) FROM notices")
        print("in", flush=True)
        time.sleep(1)
        connection.exec_driver_sql("SELECT count(*) FROM notices")
except LedgerError as error:
    print(type(error).__name__)
"""


def _release(version: int) -> Release:
    words = dict.fromkeys(("run_id", "model", "index", "catalogue", "manifest", "params", "code", "commit"), "word")
    return Release(
        version, f"stack ledger {version}", "registered", specs={"music": "spec"}, evidence=None, approved_by=None,
        approved_at=None, created="2026-01-01T00:00:00+00:00", **words,
    )  # fmt: skip


@pytest.fixture
def apart(on_stack: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a ledger in a schema of its own: other tests' releases are in the stack's, and some here tamper."""
    url = on_stack["NEEDLEDROP_LEDGER_URL"]
    assert url.startswith("postgresql")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS ledger_test CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA ledger_test")
    engine.dispose()
    made = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3Dledger_test"
    monkeypatch.setenv("NEEDLEDROP_LEDGER_URL", made)
    database._engine.cache_clear()
    yield made
    database._engine.cache_clear()


@pytest.fixture
def platform(apart: str, tmp_path: Path) -> Platform:
    return Platform(Workspace(tmp_path), read_environment())


def behind(proxy: SilentProxy, stack: State, platform: Platform) -> Platform:
    """The same ledger, asked by way of a proxy."""
    url = platform.ledger_url.replace(f":{stack.ports.postgres}/", f":{proxy.port}/")
    return Platform(platform.workspace, Environment(ledger_url=url))


@pytest.fixture
def proxy(stack: State) -> Iterator[SilentProxy]:
    with SilentProxy("127.0.0.1", stack.ports.postgres) as made:
        yield made


def count(platform: Platform) -> int:
    with reading(platform) as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM notices").scalar_one())


def insert(connection: Connection, key: str) -> None:
    connection.exec_driver_sql("INSERT INTO notices (key, at, state) VALUES (%s, '2026-01-01', 'sent')", (key,))


@pytest.mark.parametrize("tables", [(), ("releases", "audit")])
def test_a_ledger_of_the_first_release_keeps_every_row(platform: Platform, tables: tuple[str, ...]) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    import flows.drift.budget
    import flows.ledger.attempts
    import flows.ledger.notices  # noqa: F401 - each of these owns tables

    engine = create_engine(platform.ledger_url)
    with engine.begin() as connection:
        first_release.write(connection, *tables)
        before = first_release.rows(connection) if not tables else {}
    with transaction(platform) as connection:
        assert {name: found for name, found in first_release.rows(connection).items() if not tables} == before
        assert check(connection) == first_release.TABLES["audit"]
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM ledger_revision").scalar_one() == HEAD
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, database.TABLES) == []
    for statement in ("UPDATE audit SET actor = 'Eve'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(LedgerRefused, match="append-only"), transaction(platform) as connection:
            connection.exec_driver_sql(statement)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger_revision SET version_num = '0099'")
    engine.dispose()
    database._engine.cache_clear()
    with pytest.raises(LedgerNewer, match="made by a newer Needledrop"), reading(platform):
        pass


def test_a_migration_that_is_killed_has_not_happened(platform: Platform, on_stack: dict[str, str]) -> None:
    engine = create_engine(platform.ledger_url)
    with engine.begin() as connection:
        first_release.write(connection)
        before = first_release.rows(connection)
    environment = on_stack | {"NEEDLEDROP_LEDGER_URL": platform.ledger_url}
    killed, names = 0, set[str]()
    for number in range(1, 40, 2):
        words = [sys.executable, "-c", KILLED, str(platform.workspace.root), str(number)]
        status = subprocess.run(words, env=environment, check=False).returncode
        with engine.connect() as connection:
            assert first_release.rows(connection) == before
            names = set(inspect(connection).get_table_names())
        if VERSION_TABLE in names:  # past the last statement
            break
        assert status == -signal.SIGKILL
        killed += 1
    assert killed >= 4 and VERSION_TABLE in names
    with transaction(platform) as connection:
        assert check(connection) == first_release.TABLES["audit"]
    engine.dispose()


def test_who_looks_stops_nobody_and_who_is_suspended_in_mid_writing_stops_them_for_seconds(
    platform: Platform, on_stack: dict[str, str]
) -> None:
    with transaction(platform):
        pass
    for way, least_s, most_s in (("reading", 0.0, 2.0), ("transaction", 1.0, database._IDLE_S + 10.0)):
        words = [sys.executable, "-c", SUSPENDED, str(platform.workspace.root), way]
        one = subprocess.Popen(
            words, env=on_stack | {"NEEDLEDROP_LEDGER_URL": platform.ledger_url}, stdout=subprocess.PIPE
        )
        assert one.stdout is not None and one.stdout.readline() == b"in\n"
        one.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with transaction(platform) as connection:
            insert(connection, way)
        assert least_s <= time.monotonic() - began < most_s, way
        one.send_signal(signal.SIGCONT)
        said, _ = one.communicate(timeout=60)
        assert (b"LedgerAway" in said) == (way == "transaction"), "its session was ended: nothing of it stands"
    assert count(platform) == 2


def test_while_another_writes_for_too_long_it_is_busy(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(database._SESSION, "lock_timeout", 300)
    with transaction(platform):
        busy = pytest.raises(LedgerBusy, match=r"is busy .*nothing was changed: run it again")
        with busy, transaction(platform):
            pass


def test_a_server_that_is_too_old_is_named(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_LEAST", 99_00_00)
    with pytest.raises(LedgerDenied, match=r"PostgreSQL is \d+, not 99 or newer"), reading(platform):
        pass


def test_a_mistake_of_ours_is_no_word_about_the_ledger(platform: Platform) -> None:
    with pytest.raises(ProgrammingError), transaction(platform) as connection:
        connection.exec_driver_sql("SELECT * FROM unknown")
    with pytest.raises(InternalError, match="read-only"), reading(platform) as connection:
        insert(connection, "written while reading")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("ledger:ledger", "password authentication failed"), ("ledger/unknown", "does not exist")],
)
def test_what_the_server_refuses_is_not_asked_again(stack: State, tmp_path: Path, wrong: str, words: str) -> None:
    url = stack.exports()["NEEDLEDROP_LEDGER_URL"]
    secret = stack.secrets["ledger_database"]
    url = url.replace(secret, "ledger") if wrong == "ledger:ledger" else url.rpartition("/")[0] + "/unknown"
    began = time.monotonic()
    patient = Environment(ledger_url=url, patience_s=600)
    with (
        pytest.raises(LedgerDenied, match=rf"{words}.*see NEEDLEDROP_LEDGER_URL"),
        reading(Platform(Workspace(tmp_path), patient)),
    ):
        pass
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("way", ["to the server", "to the client"])
def test_when_the_answer_to_a_commit_is_lost_nobody_knows(
    platform: Platform, proxy: SilentProxy, stack: State, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(database, "_WHOLE_S", 2.0)
    through = behind(proxy, stack, platform)
    unknown = pytest.raises(
        CommitUnknown, match=r"whether it was written is not known: look with .needledrop release show."
    )
    with unknown as error, transaction(through) as connection:
        insert(connection, "one")
        proxy.fall_silent(way)
    assert "nothing was changed" not in str(error.value)
    time.sleep(0.5)
    assert count(platform) == {"to the server": 0, "to the client": 1}[way]


def test_silence_before_the_commit_changes_nothing_and_ends(
    platform: Platform, proxy: SilentProxy, stack: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_WHOLE_S", 2.0)
    through, began = behind(proxy, stack, platform), time.monotonic()
    with pytest.raises(LedgerAway, match=r"does not answer .*nothing was changed"), transaction(through) as connection:
        insert(connection, "one")
        proxy.fall_silent("to the client")
        insert(connection, "two")
    # A connection that waits in the pool is silent too, and a new one is taken and never answered.
    with pytest.raises(LedgerAway, match=r"does not answer .*nothing was changed"), transaction(through):
        pass
    assert time.monotonic() - began < 40
    proxy.speak()
    with transaction(through) as connection:
        insert(connection, "three")
    assert count(platform) == 1


def test_the_ledger_on_postgresql(apart: str, on_stack: dict[str, str], tmp_path: Path) -> None:
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
