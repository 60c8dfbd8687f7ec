"""The ledger: one small database for what all workers must agree on (releases, audit, leases, triggers).

MLflow's aliases have no history and no compare-and-swap, and a lock on a file binds one machine only.
So decisions are rows here, changed in one transaction each, and MLflow shows them. The default is a
file in the workspace; a team names its PostgreSQL in `NEEDLEDROP_LEDGER_URL`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sqlalchemy import MetaData, event
from sqlalchemy.engine import Connection, Engine

from flows.environment import pauses, redact
from flows.errors import Refusal
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

TABLES = MetaData()
"""Every table of the ledger; the module that owns a table defines it here."""

_BUSY_S = 30  # how long a writer waits for another
_REFUSALS = ("authentication failed", "does not exist", "permission denied", "pg_hba.conf")  # asking again is no use
_made: "WeakKeyDictionary[Engine, int]" = WeakKeyDictionary()  # how many tables exist there


class LedgerUnreachable(Refusal):
    """The ledger's database does not answer, or refuses."""


@contextmanager
def transaction(platform: Platform, patience_s: float | None = None) -> Iterator[Connection]:
    """Yield a connection inside one serialised transaction: all of it happens, or nothing.

    Writers take turns, so what was read inside is still true when it is written. A database that does not
    answer is asked again, before anything has happened.

    Args:
        platform: names the database.
        patience_s: for how long it is asked; default: as the settings say.

    Raises:
        LedgerUnreachable: the database does not answer; nothing has changed.
    """
    from sqlalchemy.exc import DBAPIError, NoSuchModuleError

    url = platform.ledger_url
    try:
        if platform.environment.ledger_url is None:
            platform.workspace.state.mkdir(parents=True, exist_ok=True)
        patience_s = platform.environment.patience_s if patience_s is None else patience_s
        with _connected(url, patience_s) as connection, connection.begin():
            yield connection
    except (DBAPIError, NoSuchModuleError, ImportError) as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise LedgerUnreachable(
            f"the ledger at {redact(url)}: {said}; nothing was changed: see NEEDLEDROP_LEDGER_URL"
        ) from error


def _connected(url: str, patience_s: float) -> Connection:
    """Connect, with the tables made; try again while nothing answers.

    Raises:
        DBAPIError: it does not answer, or refuses.
    """
    from sqlalchemy.exc import OperationalError

    engine, waits = _engine(url), pauses(patience_s)
    while True:
        try:
            _make_tables(engine)
            return engine.connect()
        except OperationalError as error:
            final = url.startswith("sqlite") or any(words in str(error) for words in _REFUSALS)
            if final or (pause := next(waits, None)) is None:
                raise
            time.sleep(pause)


@lru_cache(maxsize=8)
def _engine(url: str) -> Engine:
    """Return the engine of a database."""
    from sqlalchemy import create_engine

    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": _BUSY_S})
        event.listen(engine, "connect", _by_hand)
        event.listen(engine, "begin", _take_turn)
    else:
        # SERIALIZABLE would end one of two writers with an error; a lock makes it wait instead.
        engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5})
        event.listen(engine, "begin", _take_turn)
    return engine


def _make_tables(engine: Engine) -> None:
    """Make the tables that lack; modules that own some may be imported after the first use."""
    if _made.get(engine) != len(TABLES.tables):
        with engine.begin() as connection:
            TABLES.create_all(connection)
        _made[engine] = len(TABLES.tables)


def _by_hand(connection: "DBAPIConnection", _: "ConnectionPoolEntry") -> None:
    connection.isolation_level = None  # else sqlite begins too late to be alone


def _take_turn(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7133701809754865664)")
