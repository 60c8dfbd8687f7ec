"""The ledger through the releases: brought up to date whole or not at all, with every row and a copy of what was."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from flows.environment import Environment
from flows.ledger.database import reading, transaction
from flows.ledger.errors import LedgerNewer
from flows.ledger.migrate import FOLDER, HEAD, REVISIONS, VERSION_TABLE
from flows.release.check import check
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

from .first_release import TABLES, rows, write

ROOT = Path(__file__).parents[2]

# Uses the ledger; killed -9 just before the statement of the given number.
USER = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from flows.environment import Environment
from flows.ledger.database import transaction
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
left = int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

with transaction(Platform(Workspace(Path(sys.argv[1])), Environment())):
    print("in", flush=True)
"""


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.delenv("NEEDLEDROP_LEDGER_URL", raising=False)
    (tmp_path / ".needledrop").mkdir()
    return Platform(Workspace(tmp_path), Environment())


@pytest.fixture
def file(platform: Platform) -> Iterator[Engine]:
    """Another way into the ledger than the code's own."""
    engine = create_engine(platform.ledger_url)
    yield engine
    engine.dispose()


def revision(file: Engine) -> str:
    with file.connect() as connection:
        return str(connection.exec_driver_sql("SELECT version_num FROM ledger_revision").scalar_one())


def use(platform: Platform, kill_before: int = 0) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEEDLEDROP_")}
    words = [sys.executable, "-c", USER, str(platform.workspace.root), str(kill_before)]
    return subprocess.run(
        words, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def test_a_ledger_of_the_first_release_keeps_every_row(
    platform: Platform, file: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    with file.begin() as connection:
        write(connection)
        before = rows(connection)
    assert {name: len(of) for name, of in before.items()} == TABLES
    with reading(platform) as connection:
        assert rows(connection) == before
        assert check(connection) == TABLES["audit"]
    assert revision(file) == HEAD
    kept = platform.workspace.ledger.with_name(f"ledger-before-{HEAD}.db")
    assert str(kept) in capsys.readouterr().err
    copy = create_engine(f"sqlite:///{kept}")
    with copy.connect() as connection:
        assert rows(connection) == before
    copy.dispose()
    with transaction(platform) as connection:
        assert rows(connection) == before
    assert use(platform).stdout == "in\n"
    assert capsys.readouterr().err == ""
    assert len(list(platform.workspace.state.glob("ledger*"))) == 2, "it is copied once"


def test_a_ledger_in_which_some_tables_were_never_used(platform: Platform, file: Engine) -> None:
    with file.begin() as connection:
        write(connection, "releases", "audit")
    with transaction(platform) as connection:
        counts = {name: len(of) for name, of in rows(connection).items()}
        assert counts == dict.fromkeys(TABLES, 0) | {"releases": 3, "audit": 18}
        assert check(connection) == 18


@pytest.mark.parametrize("old", [False, True])
def test_the_tables_are_those_that_the_code_speaks_of(platform: Platform, file: Engine, old: bool) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    import flows.drift.budget
    import flows.ledger.attempts
    import flows.ledger.notices  # noqa: F401 - each of these owns tables
    from flows.ledger.database import TABLES as OURS

    if old:
        with file.begin() as connection:
            write(connection)
    with transaction(platform):
        pass
    with file.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), OURS) == []


def test_the_revisions_are_the_files_in_their_order() -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(FOLDER))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(REVISIONS)
    assert scripts.get_heads() == [HEAD]


def test_a_new_ledger_needs_no_copy(platform: Platform, file: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with transaction(platform):
        pass
    assert revision(file) == HEAD
    assert capsys.readouterr().err == ""
    assert [path.name for path in platform.workspace.state.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize("old", [False, True])
def test_a_ledger_of_a_newer_release_is_left_alone(platform: Platform, file: Engine, old: bool) -> None:
    if not old:
        with transaction(platform):
            pass
    with file.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS ledger_revision")
        connection.exec_driver_sql("CREATE TABLE ledger_revision (version_num VARCHAR(32) NOT NULL)")
        connection.exec_driver_sql("INSERT INTO ledger_revision VALUES ('0099')")
    before = platform.workspace.ledger.read_bytes()
    done = use(platform)
    assert done.returncode and f"made by a newer Needledrop (revision 0099, this one knows up to {HEAD})" in done.stderr
    if old:
        with pytest.raises(LedgerNewer, match="upgrade this one"), transaction(platform):
            pass
    assert platform.workspace.ledger.read_bytes() == before


def test_a_release_that_was_overtaken_while_it_ran_says_so(platform: Platform, file: Engine) -> None:
    with transaction(platform):
        pass
    with pytest.raises(OperationalError, match="no such table: unknown"), reading(platform) as connection:
        connection.exec_driver_sql("SELECT * FROM unknown")
    with file.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger_revision SET version_num = '0099'")
        connection.exec_driver_sql("ALTER TABLE releases RENAME COLUMN digest TO content")
    with pytest.raises(LedgerNewer, match="revision 0099"), reading(platform) as connection:
        connection.exec_driver_sql("SELECT digest FROM releases")


def test_killed_anywhere_it_has_not_happened_and_the_next_one_does_it(platform: Platform, file: Engine) -> None:
    with file.begin() as connection:
        write(connection)
        before = rows(connection)
    killed = 0
    for number in range(2, 200, 4):
        done = use(platform, kill_before=number)
        with closing(connect(platform.workspace.ledger)) as one:
            names = {name for (name,) in one.execute("SELECT name FROM sqlite_master")}
            (whole,) = one.execute("PRAGMA integrity_check").fetchone()
        assert whole == "ok"
        if done.returncode == 0 or VERSION_TABLE in names:  # past the last statement
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert "attempts_by_state" not in names, "all of it, or nothing"
        killed += 1
    assert killed >= 5
    with transaction(platform) as connection:
        assert rows(connection) == before
        assert check(connection) == TABLES["audit"]
    assert revision(file) == HEAD


def test_of_several_that_come_first_one_does_it(platform: Platform, file: Engine) -> None:
    with file.begin() as connection:
        write(connection)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEEDLEDROP_")}
    words = [sys.executable, "-c", USER, str(platform.workspace.root), "0"]
    many = [
        subprocess.Popen(words, env=environment | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=120)[0] for process in many] == ["in\n"] * 3
    assert len(list(platform.workspace.state.glob("ledger-before-*"))) == 1
