"""What can go wrong with the ledger is told apart, and who reads changes nothing and stops nobody."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from flows.environment import Environment
from flows.errors import BUSY, ERROR
from flows.ledger import database
from flows.ledger.database import reading, transaction
from flows.ledger.errors import LedgerBusy, LedgerDenied, LedgerRefused
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

INSERT = "INSERT INTO notices (key, at, state) VALUES ('key', '2026-01-01', 'sent')"


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A ledger on which nobody waits long."""
    monkeypatch.setattr(database, "_TURN_S", 0.2)
    monkeypatch.delenv("NEEDLEDROP_LEDGER_URL", raising=False)
    database._engine.cache_clear()
    made = Platform(Workspace(tmp_path), Environment())
    with transaction(made):
        pass
    yield made
    database._engine.cache_clear()


def test_all_of_a_transaction_happens_or_nothing(platform: Platform) -> None:
    with pytest.raises(ZeroDivisionError), transaction(platform) as connection:
        connection.exec_driver_sql(INSERT)
        _ = 1 / 0
    with reading(platform) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM notices").scalar_one() == 0


def test_readers_do_not_wait_for_a_writer_nor_see_what_is_half_written(platform: Platform) -> None:
    with transaction(platform) as writer:
        writer.exec_driver_sql(INSERT)
        with reading(platform) as one, reading(platform) as other:
            for reader in (one, other):
                assert reader.exec_driver_sql("SELECT count(*) FROM notices").scalar_one() == 0
    with reading(platform) as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM notices").scalar_one() == 1


def test_to_write_while_reading_is_a_mistake_of_ours_and_the_next_writer_can(platform: Platform) -> None:
    with pytest.raises(OperationalError, match="readonly"), reading(platform) as connection:
        connection.exec_driver_sql(INSERT)
    with transaction(platform) as connection:
        connection.exec_driver_sql(INSERT)


def test_while_another_writes_for_too_long_it_is_busy(platform: Platform) -> None:
    with closing(connect(platform.workspace.ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(LedgerBusy, match=r"is busy .*nothing was changed: run it again") as busy,
            transaction(platform),
        ):
            pass
        assert busy.value.code == BUSY
        other.execute("ROLLBACK")
    with transaction(platform) as connection:
        connection.exec_driver_sql(INSERT)


def test_a_rule_of_the_database_refuses(platform: Platform) -> None:
    words = r"refuses: UNIQUE.*notices\.key; nothing was changed"
    with pytest.raises(LedgerRefused, match=words) as refused, transaction(platform) as connection:
        connection.exec_driver_sql(INSERT)
        connection.exec_driver_sql(INSERT)
    assert refused.value.code == ERROR
    with reading(platform) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM notices").scalar_one() == 0


@pytest.mark.parametrize("statement", ["SELEKT 1", "SELECT digest FROM notices", "SELECT * FROM unknown"])
def test_a_mistake_of_ours_is_no_word_about_the_ledger(platform: Platform, statement: str) -> None:
    with pytest.raises((OperationalError, ProgrammingError)), transaction(platform) as connection:
        connection.exec_driver_sql(statement)


def test_an_import_that_fails_inside_is_no_word_about_the_ledger(platform: Platform) -> None:
    with pytest.raises(ModuleNotFoundError), transaction(platform):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mistyped://u:sesame@host/ledger", "Can't load plugin"),
        ("postgresql+nodriver://u:sesame@host/ledger", "Can't load plugin"),
        ("sesame", "Could not parse"),
        ("postgresql://u:sesame@host:port/ledger", "port"),
        ("sqlite:////nowhere/ledger.db", "unable to open database file"),
        ("sqlite:///{folder}/text.db", "not a database"),
    ],
)
def test_a_wrong_address_is_named_and_the_variable_too(tmp_path: Path, url: str, words: str) -> None:
    (tmp_path / "text.db").write_text("this is a text of more than a hundred bytes, and no database at all\n" * 20)
    wrong = Platform(Workspace(tmp_path), Environment(ledger_url=url.format(folder=tmp_path)))
    words = rf"{words}.*nothing was changed: see NEEDLEDROP_LEDGER_URL"
    with pytest.raises(LedgerDenied, match=words) as denied, reading(wrong):
        pass
    assert "sesame@" not in str(denied.value)
