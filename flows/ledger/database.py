"""The ledger: one small database for what all workers must agree on (releases, audit, leases, triggers).

MLflow's aliases have no history and no compare-and-swap, and a lock on a file binds one machine only.
So decisions are rows here, changed in one transaction each, and MLflow shows them. The default is a
file in the workspace; a team names its PostgreSQL in `NEEDLEDROP_LEDGER_URL`.

Nobody can hold it up for long. Who writes has it alone, for a bounded time: the server ends a transaction
whose client says nothing more, and a client leaves a server that does. Who reads has a snapshot, and keeps
nobody from writing.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from sqlalchemy import MetaData, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError

from flows.environment import retrying
from flows.ledger.errors import LedgerAway, LedgerDenied, told_apart, unknown_commit, unusable
from flows.ledger.migrate import HEAD, migrate, revision
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

TABLES = MetaData()
"""Every table of the ledger; the module that owns a table defines it here, flows/ledger/migrations makes it."""

FENCES: Final[list[Callable[[Platform, Connection], None]]] = []
"""What must be true when something is written, asked inside each transaction; raises where it is not."""

TURN: Final = 7133701809754865664
"""The advisory lock of whoever writes."""

_TURN_S = 30  # how long a writer waits for its turn
_STATEMENT_S = 45  # longer than the turn, so that it is a turn that was waited for in vain
_IDLE_S = 15  # a client that says nothing more inside a transaction; less than others wait for it
_WHOLE_S = 90.0  # a transaction as the client sees it: nothing ends the silence of a network but ourselves
_PING_S = 5.0
_LEAST = 14_00_00  # of PostgreSQL: ends sessions that are idle

# A peer that vanished is found out by the kernel: after 10 + 3 x 5 s, or 20 s with something under way.
_KEEPALIVE: Final = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_SESSION: Final = {
    "statement_timeout": _STATEMENT_S * 1000,
    "lock_timeout": _TURN_S * 1000,
    "idle_in_transaction_session_timeout": _IDLE_S * 1000,
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

_under_way: Final[set[socket.socket]] = set()  # what is asked of a server now
_current: "WeakSet[Engine]" = WeakSet()  # whose tables are those of this release


@contextmanager
def transaction(platform: Platform, patience_s: float | None = None, fenced: bool = True) -> Iterator[Connection]:
    """Yield a connection inside one serialised transaction: all of it happens, or nothing.

    Writers take turns, so what was read inside is still true when it is written. A database that does not
    answer is asked again, before anything has happened.

    Args:
        platform: names the database.
        patience_s: for how long it is asked; default: as the settings say.
        fenced: write only while this process has every lease that it had taken.

    Raises:
        LedgerError: it cannot be done, and nothing has changed; see flows/ledger/errors.py.
        CommitUnknown: the answer to the last step was lost: it is done, or not.
        LeaseLost: this process works under a lease that it has no more; nothing has changed.
    """
    with _begun(platform, patience_s, reads=False) as connection:
        if fenced:
            for fence in FENCES:
                fence(platform, connection)
        yield connection


@contextmanager
def reading(platform: Platform, patience_s: float | None = None) -> Iterator[Connection]:
    """Yield a connection that sees one moment of the ledger and can change nothing; writers do not wait for it.

    Args:
        platform: names the database.
        patience_s: for how long it is asked; default: as the settings say.

    Raises:
        LedgerError: it cannot be read.
    """
    with _begun(platform, patience_s, reads=True) as connection:
        yield connection


@contextmanager
def _begun(platform: Platform, patience_s: float | None, reads: bool) -> Iterator[Connection]:
    url = platform.ledger_url
    connection = _connected(platform, platform.environment.patience_s if patience_s is None else patience_s)
    with within(connection, _WHOLE_S):
        try:
            if reads:
                connection = connection.execution_options(needledrop_reads=True, **_SNAPSHOT[connection.dialect.name])
            begun = connection.begin()
            try:
                yield connection
            except BaseException:
                with suppress(DBAPIError):  # the connection is of no use then, and its transaction ends with it
                    begun.rollback()
                raise
            try:
                begun.commit()
            except DBAPIError as error:
                meant = told_apart(url, error)
                if not isinstance(meant, LedgerAway) or reads:
                    raise
                raise unknown_commit(url, error) from error
        except DBAPIError as error:
            raise _meaning(url, error, reads) from error
        finally:
            connection.close()


_SNAPSHOT: Final[dict[str, dict[str, Any]]] = {
    "sqlite": {},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}


def _meaning(url: str, error: DBAPIError, reads: bool) -> Exception:
    """Return what to raise for an error of the database; a mistake of ours stays what it is."""
    meant = told_apart(url, error, reads=reads)
    if meant is None:
        # A release that is newer may have changed the tables under our feet.
        _schema_version(_engine(url), url)
    return meant or error


def _connected(platform: Platform, patience_s: float) -> Connection:
    """Connect, with the tables as this release has them; try again while nothing answers.

    Raises:
        LedgerError: it cannot be had.
    """
    url = platform.ledger_url
    if platform.environment.ledger_url is None:
        platform.workspace.state.mkdir(parents=True, exist_ok=True)
    try:
        engine = _engine(url)
    except (NoSuchModuleError, ArgumentError, ImportError, ValueError) as error:
        raise unusable(url, error) from error
    tried: Connection = retrying(0.0 if url.startswith("sqlite") else patience_s, LedgerAway)(_try, engine, url)
    return tried


def _try(engine: Engine, url: str) -> Connection:
    try:
        if engine not in _current:
            if _schema_version(engine, url) != HEAD:
                with engine.connect() as connection, within(connection, _WHOLE_S), connection.begin():
                    migrate(connection, url)
            _current.add(engine)
        return engine.connect()
    except DBAPIError as error:
        meant = told_apart(url, error, connecting=True)
        if meant is None:
            raise
        raise meant from error


def _schema_version(engine: Engine, url: str) -> str | None:
    """Return the revision of a ledger's tables.

    Raises:
        LedgerNewer: a later release has been there.
    """
    with engine.connect() as connection, within(connection, _PING_S):
        return revision(connection.execution_options(needledrop_reads=True), url)


@lru_cache(maxsize=8)
def _engine(url: str) -> Engine:
    """Return the engine of a database."""
    from sqlalchemy import create_engine

    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": _TURN_S})
        event.listen(engine, "connect", _by_hand)
    else:
        engine = server_engine(url)
        event.listen(engine, "checkout", _require_answer)
    # SERIALIZABLE would end one of two writers with an error; a lock makes it wait instead.
    event.listen(engine, "begin", _take_turn)
    return engine


def server_engine(url: str, **options: Any) -> Engine:
    """Return an engine of a PostgreSQL server, whose connections end in a bounded time where nothing answers."""
    from sqlalchemy import create_engine

    engine = create_engine(url, connect_args=dict(_KEEPALIVE), **options)
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "checkout", _connected_in_time)
    return engine


def _connect(dialect: Any, record: Any, words: Any, named: Any) -> Any:
    """Connect, and cut the connection off where the questions that SQLAlchemy asks first are not answered."""
    connection = dialect.connect(*words, **named)
    if connection.server_version < _LEAST:
        found = f"{connection.server_version // 10000}, not {_LEAST // 10000} or newer"
        raise LedgerDenied(f"the ledger's PostgreSQL is {found}; nothing was changed: see NEEDLEDROP_LEDGER_URL")
    record.info["first"] = first = ExitStack()
    first.enter_context(_cut_off(connection, 2 * _PING_S))
    connection.autocommit = True  # else the first rollback takes the limits back
    with connection.cursor() as cursor:
        cursor.execute(_setting(_SESSION))
    connection.autocommit = False
    return connection


def _connected_in_time(_: Any, record: Any, __: "PoolProxiedConnection") -> None:
    if (first := record.info.pop("first", None)) is not None:
        first.close()


def _by_hand(connection: Any, _: "ConnectionPoolEntry") -> None:
    connection.isolation_level = None  # else sqlite begins too late to be alone


def set_session(connection: Connection, settings: dict[str, int]) -> None:
    """Set limits of a PostgreSQL session in which each statement stands for itself."""
    connection.exec_driver_sql(_setting(settings))


def _setting(settings: dict[str, int]) -> str:
    return "; ".join(f"SET {name} = {value}" for name, value in settings.items())


def _require_answer(connection: Any, _: "ConnectionPoolEntry", __: "PoolProxiedConnection") -> None:
    """Let the pool make another connection where this one is dead or silent; its own look has no time limit."""
    try:
        with _cut_off(connection, _PING_S):
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            connection.autocommit = False
    except Exception as error:  # whatever is wrong with it, it is of no use
        raise DisconnectionError(str(error)) from error


def _take_turn(connection: Connection) -> None:
    reads = connection.get_execution_options().get("needledrop_reads", False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA query_only = {int(reads)}")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
    elif not reads:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TURN})")


@contextmanager
def within(connection: Connection, seconds: float) -> Iterator[None]:
    """Break a connection to a server off when the body takes longer.

    A statement whose answer a network swallows would wait for ever; broken off, it fails as one whose server
    went away.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    inner = connection.connection.dbapi_connection
    with _cut_off(inner, seconds) if inner is not None else nullcontext():
        yield


@contextmanager
def _cut_off(connection: Any, seconds: float) -> Iterator[None]:
    # A second name for the socket: the first may be another file's by the time this strikes.
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        timer = threading.Timer(seconds, _shut, [ours])
        timer.daemon = True
        timer.start()
        _under_way.add(ours)
        try:
            yield
        finally:
            _under_way.discard(ours)
            timer.cancel()


def give_up() -> None:
    """Break off whatever this process asks a server: an answer would come too late, and waiting cannot be stopped."""
    for ours in list(_under_way):
        _shut(ours)


def _shut(ours: socket.socket) -> None:
    try:
        ours.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it ended in this moment
