"""Leases: a name that one holder at a time may have, in the ledger, so that it binds every machine.

To have one takes two things, and either alone would do where nothing goes wrong:

- a lock that ends with its holder, whatever ends him: an advisory lock of a PostgreSQL session that the server ends
  after `seconds` without a word; where the ledger is a file, a lock on a file, which the kernel frees;
- a row that says who has it until when, by the database's clock and no other. Whoever takes it next waits for the
  end of a row whose holder is not known to be dead: a server that restarts frees locks of people who are at work.

A holder confirms its lease every few seconds, with a time limit. It counts from before it asked, on a clock that
goes on while the machine sleeps, and stops after three quarters of `seconds` without an answer: the fourth quarter,
for the server's and its own clock to differ and for the work to end, nobody has it. Work that does not end then is
ended with its process. Each write into the ledger is refused to a process that has lost one of its leases, in the
transaction that would write; before any other effect, `check` asks.
"""

import os
import platform as machine
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Integer,
    Table,
    Text,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy import text as sql
from sqlalchemy.engine import Connection, Engine, Row, make_url
from sqlalchemy.exc import DBAPIError

from flows.environment import retrying
from flows.errors import BUSY, ERROR, Refusal
from flows.ledger.database import (
    FENCES,
    TABLES,
    TURN,
    give_up,
    reading,
    server_engine,
    set_session,
    transaction,
    within,
)
from flows.ledger.errors import LedgerAway, LedgerError, told_apart
from flows.workspace.platform import Platform

LEASES: Final = Table(
    "leases",
    TABLES,
    Column("name", Text, primary_key=True),
    Column("token", Text, nullable=False),  # of this holding: a later one by the same process has another
    Column("place", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Float, nullable=False),
    Column("run", Text, nullable=False),
    Column("acquired", Text, nullable=False),
    Column("expires", Text, nullable=False),
)

Life = Literal["alive", "dead", "unknown"]

_SIGNAL = signal.SIGUSR2  # to the main thread: stop, a lease is lost
_LOOK_S = 1.0  # how often one who waits looks again
_RELEASE_S = 5.0  # for giving it back; else it ends by itself
_SAME_START_S = 2.0  # the clock that start times are told from may be set meanwhile

# Shares of `seconds`, from when the last confirmation was asked for.
_BEAT, _LONGEST_BEAT_S = 1 / 12, 10.0
_ANSWER = 1 / 6  # within which a confirmation must come
_STOP = 0.75
# Shares of `seconds`, from when the loss is known: the work is told again, and ended.
_AGAIN, _END = 0.1, 0.2


class Leased(Refusal):
    """Somebody else has the lease."""

    code = BUSY


class LeaseLost(Refusal):
    """The lease ran out and was taken, or could not be confirmed in time; the work was stopped."""


# -- who holds something -------------------------------------------------------------------------


@dataclass(frozen=True)
class Holder:
    """One process on one machine, named so that anyone can tell later whether it still lives.

    A process number alone is used again; with the time of its start, its boot and its process namespace
    it is one process for ever. Of a process elsewhere nothing can be known from here.
    """

    place: str
    """Machine, boot and process namespace: where `pid` means something."""
    pid: int
    started: float
    """Seconds since the epoch."""

    def life(self) -> Life:
        """Tell whether it lives; `unknown` from another place."""
        if self.place != place():
            return "unknown"
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return "dead"
            return "alive" if abs(process.create_time() - self.started) < _SAME_START_S else "dead"
        except psutil.NoSuchProcess:
            return "dead"

    def words(self) -> str:
        """For a message."""
        return f"process {self.pid} on {self.place.partition('/')[0]}"


def me() -> Holder:
    """This process."""
    return Holder(place(), os.getpid(), psutil.Process().create_time())


def place() -> str:
    """This machine, its boot and this process namespace; the last two where the system tells them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, namespace = f"{psutil.boot_time():.0f}", ""
    return f"{machine.node()}/{boot}/{namespace}"


# -- to have a lease -----------------------------------------------------------------------------


@dataclass(eq=False)
class Held:
    """A lease that this process has."""

    name: str
    seconds: float
    platform: Platform
    main: bool
    """Whether the main thread works under it, which alone can be stopped."""
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    lost: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        url = self.platform.ledger_url
        self._lock: _Lock = _FileLock(self) if url.startswith("sqlite") else _SessionLock(self)
        self._asked = _clock()
        self._one_asks = threading.Lock()

    @property
    def deadline(self) -> float:
        """When it counts as lost unless it is confirmed before; on `_clock`."""
        return self._asked + _STOP * self.seconds if self._lock.runs_out else float("inf")

    def confirm(self) -> bool:
        """Make it last `seconds` from now; False where it is no longer ours.

        Raises:
            LedgerError: the ledger did not answer in time; it is ours until the deadline.
        """
        with self._one_asks:
            asked = _clock()
            if not self._lock.confirm():
                return False
            self._asked = asked
            return True

    def check(self) -> None:
        """Confirm it, as often as it takes, before a step that must not be done twice.

        Raises:
            LeaseLost: it is no longer ours, or may not be.
            LedgerError: the ledger is a file that cannot be used.
        """
        while not self.lost.is_set() and _clock() < self.deadline:
            try:
                if self.confirm():
                    return
                self.lost.set()
            except LedgerError:
                if not self._lock.runs_out:
                    raise
                time.sleep(min(_LOOK_S, _BEAT * self.seconds))
        self.lost.set()
        raise LeaseLost(_lost(self))

    def acquire(self, wait_s: float | None, run: str) -> None:
        """Take it, or wait for it; see `lease`."""
        until = None if wait_s is None else time.monotonic() + wait_s
        told = False
        take = retrying(self.platform.environment.patience_s, LedgerAway)
        try:
            while True:
                other = self._enter(run) if take(self._lock.take) else self._row()
                if isinstance(other, float):
                    self._asked = other
                    return
                self._lock.leave()
                who = f"{_who(other)} has '{self.name}' since {other.acquired}" if other else f"'{self.name}' is taken"
                if until is not None and time.monotonic() >= until:
                    raise Leased(f"busy: {who}; wait for it to end, or stop it first")
                if not told:
                    print(f"waiting: {who}", file=sys.stderr, flush=True)
                    told = True
                time.sleep(_LOOK_S if until is None else min(_LOOK_S, max(0.0, until - time.monotonic())))
        except BaseException:
            self._lock.give_back()
            raise

    def give_back(self) -> None:
        """Let others have it at once; where the ledger does not answer, it runs out by itself."""
        self._lock.give_back()

    def _enter(self, run: str) -> Row[Any] | float | None:
        """Write the row if no other's stands there; return that one, else when this was asked for."""
        with transaction(self.platform, fenced=False) as connection:
            other = connection.execute(select(LEASES).where(LEASES.c.name == self.name)).one_or_none()
            if other is not None and not (_is_over(connection, other) and _take_away(connection, other)):
                return other
            holder, asked = me(), _clock()
            connection.execute(
                insert(LEASES).values(
                    name=self.name,
                    token=self.token,
                    place=holder.place,
                    pid=holder.pid,
                    started=holder.started,
                    run=run,
                    acquired=_time(connection),
                    expires=_time(connection, self.seconds),
                )
            )
        return asked

    def _row(self) -> Row[Any] | None:
        with reading(self.platform) as connection:
            return connection.execute(select(LEASES).where(LEASES.c.name == self.name)).one_or_none()


@contextmanager
def lease(
    platform: Platform, name: str, seconds: float = 60.0, wait_s: float | None = 0.0, run: str = ""
) -> Iterator[Held]:
    """Have the lease `name` while the body runs.

    Enter it in the main thread: only that can be stopped when the lease is lost.

    Args:
        platform: names the ledger.
        name: what must not be done twice at once.
        seconds: how long a holder that says nothing more keeps it; where the ledger is a file, until it dies.
        wait_s: how long to wait for it; 0 refuses at once, None waits for ever.
        run: who works under it, for messages and for the reaper.

    Raises:
        Leased: another has it.
        LeaseLost: it was lost while the body ran, which was stopped.
        LedgerError: the ledger does not answer.
    """
    held = Held(name, seconds, platform, threading.current_thread() is threading.main_thread())
    held.acquire(wait_s, run)
    threads = [threading.Thread(target=one, args=(held,), name=f"lease {name}", daemon=True) for one in (_beat, _watch)]
    with _listed(held):
        try:
            for thread in threads:
                thread.start()
            yield held
        except BaseException as error:
            if held.lost.is_set() and not isinstance(error, LeaseLost):
                raise LeaseLost(_lost(held)) from error
            raise
        finally:
            held.ended.set()
            for thread in threads:
                thread.join()
            held.give_back()
    if held.lost.is_set():
        raise LeaseLost(_lost(held))


def check() -> None:
    """Make sure, before a step that must not be done twice, that this process has every lease that it took.

    Raises:
        LeaseLost: one is no longer ours, or may not be.
    """
    for held in _held:
        held.check()


def leases(connection: Connection) -> list[Row[Any]]:
    """Every lease, by name."""
    return list(connection.execute(select(LEASES).order_by(LEASES.c.name)))


def free_dead(connection: Connection) -> list[str]:
    """Take away the leases whose holders are dead, or silent for too long; return their names."""
    over = [row for row in leases(connection) if _is_over(connection, row) and not _is_locked(connection, row)]
    freed = [row.name for row in over if _take_away(connection, row)]
    if connection.dialect.name == "sqlite":
        for name in freed:
            _clear_away(_lock_file(str(connection.engine.url), name))
    return freed


def moment(later_s: float = 0.0) -> str:
    """Return the time now, or `later_s` seconds later, as text that sorts by time; by this machine's clock."""
    return (datetime.now(UTC) + timedelta(seconds=later_s)).isoformat(timespec="milliseconds")


# -- the row -------------------------------------------------------------------------------------


def _is_over(connection: Connection, row: Row[Any]) -> bool:
    """Tell whether nobody stands behind a row any more, as far as the row tells."""
    life = Holder(row.place, row.pid, row.started).life()
    return life == "dead" or bool(row.expires <= connection.execute(select(_time(connection))).scalar_one())


def _take_away(connection: Connection, row: Row[Any]) -> bool:
    """Delete a row, unless its holder has confirmed it since it was read."""
    same = (LEASES.c.name == row.name) & (LEASES.c.token == row.token) & (LEASES.c.expires == row.expires)
    return connection.execute(delete(LEASES).where(same)).rowcount == 1


def _is_locked(connection: Connection, row: Row[Any]) -> bool:
    """Tell whether the lock of a row that is over is still held: then its holder is there, and a clock was wrong."""
    if connection.dialect.name == "sqlite":
        if Holder(row.place, row.pid, row.started).life() == "alive":
            return True
        # Who seems dead may live: a clock that is set moves the start times of all processes.
        path = _lock_file(str(connection.engine.url), row.name)
        return row.place == place() and path.exists() and _is_taken(path)
    key = connection.execute(select(_key(row.name))).scalar_one() & 0xFFFFFFFFFFFFFFFF
    asked = sql(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND classid = :high AND objid = :low)"
    )
    return bool(connection.execute(asked, {"high": key >> 32, "low": key & 0xFFFFFFFF}).scalar_one())


def _time(connection: Connection, later_s: float = 0.0) -> ColumnElement[str]:
    """The database's time, or `later_s` seconds later, in the form of `moment`."""
    if connection.dialect.name == "sqlite":
        return func.strftime("%Y-%m-%dT%H:%M:%f+00:00", "now", f"{later_s:+.3f} seconds")
    later: ColumnElement[Any] = literal_column(
        f"clock_timestamp() AT TIME ZONE 'UTC' + interval '{later_s:.3f} seconds'"
    )
    return func.to_char(later, 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"')


def _key(name: str) -> ColumnElement[int]:
    """The number of a lease's advisory lock; a database may hold several ledgers, each in a schema."""
    return func.hashtextextended(func.current_schema().op("||")(f" lease {name}"), TURN)


# -- the lock ------------------------------------------------------------------------------------


class _Lock(Protocol):
    runs_out: bool
    """Whether it ends while its holder lives, when that is silent for too long."""

    def take(self) -> bool:
        """Take it; False where another has it."""

    def confirm(self) -> bool:
        """Say that the holder is there; False where the row is no longer its own."""

    def leave(self) -> None:
        """Let another have it, and be ready to take it again soon."""

    def give_back(self) -> None:
        """Let another have it, and the row too."""


class _FileLock:
    """Where the ledger is a file: a lock beside it, which lasts as long as the process, asleep or awake."""

    runs_out = False

    def __init__(self, held: Held) -> None:
        from filelock import FileLock

        path = _lock_file(held.platform.ledger_url, held.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._held = held
        self._lock = FileLock(path, thread_local=False)

    def take(self) -> bool:
        from filelock import Timeout

        try:
            # Not at once: who had it before may remove the file between our opening and our locking it.
            self._lock.acquire(timeout=0.2, poll_interval=0.02)
        except Timeout:
            return False
        return True

    def confirm(self) -> bool:
        with transaction(self._held.platform, patience_s=0.0, fenced=False) as connection:
            return _renew(connection, self._held)

    def leave(self) -> None:
        self._lock.release()

    def give_back(self) -> None:
        if self._lock.is_locked:
            with suppress(LedgerError), transaction(self._held.platform, 0.0, fenced=False) as connection:
                _remove(connection, self._held)
            Path(self._lock.lock_file).unlink(missing_ok=True)  # else one would stay for each run
        self._lock.release()


def _lock_file(url: str, name: str) -> Path:
    file = Path(make_url(url).database or "")
    return file.with_name(f"{file.stem}-leases") / quote(name, safe="")


def _is_taken(path: Path) -> bool:
    """Tell whether a process has the lock of a file."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _clear_away(path: Path) -> None:
    """Remove the file of a lock whose holder died, unless another has it by now."""
    from filelock import FileLock, Timeout

    if path.exists():
        with suppress(Timeout), FileLock(path, timeout=0):
            path.unlink(missing_ok=True)


class _SessionLock:
    """On PostgreSQL: an advisory lock of a session of its own, which the server ends when it hears nothing."""

    runs_out = True

    def __init__(self, held: Held) -> None:
        self._held = held
        self._connection: Connection | None = None
        self._has = False

    def take(self) -> bool:
        with self._session(_ANSWER * self._held.seconds) as connection:
            return self._try(connection)

    def confirm(self) -> bool:
        with self._session(_ANSWER * self._held.seconds) as connection:
            # A session that broke had the lock; the row has kept its place meanwhile.
            self._try(connection)
            return _renew(connection, self._held)

    def leave(self) -> None:
        if self._has:
            self._has = False
            with suppress(LedgerError), self._session(_RELEASE_S) as connection:
                connection.execute(select(func.pg_advisory_unlock(_key(self._held.name))))

    def give_back(self) -> None:
        if self._connection is not None:
            with suppress(LedgerError), self._session(_RELEASE_S) as connection:
                _remove(connection, self._held)
        self._close()

    def _try(self, connection: Connection) -> bool:
        if not self._has:
            self._has = bool(connection.execute(select(func.pg_try_advisory_lock(_key(self._held.name)))).scalar_one())
        return self._has

    def _close(self) -> None:
        connection, self._connection, self._has = self._connection, None, False
        if connection is not None:
            connection.invalidate()  # a polite goodbye may find nobody
            connection.close()

    @contextmanager
    def _session(self, seconds: float) -> Iterator[Connection]:
        """Yield the session, opened where there is none; give it up where it fails or is silent for `seconds`.

        Raises:
            LedgerError: it was.
        """
        new = self._connection is None
        try:
            if self._connection is None:
                self._connection = _sessions(self._held.platform.ledger_url).connect()
            with within(self._connection, seconds):
                if new:
                    self._limit(self._connection)
                yield self._connection
        except DBAPIError as error:
            connecting = self._connection is None
            self._close()
            raise told_apart(self._held.platform.ledger_url, error, connecting) or error from error

    def _limit(self, connection: Connection) -> None:
        """Let the server end the session when it hears nothing for `seconds`: not before others may have the row."""
        limits = {"statement_timeout": _ANSWER, "idle_session_timeout": 1.0, "tcp_user_timeout": 1.0}
        set_session(connection, {name: round(1000 * share * self._held.seconds) for name, share in limits.items()})


@lru_cache(maxsize=8)
def _sessions(url: str) -> Engine:
    """Return what opens sessions in which each statement stands for itself, and of which none is used again."""
    from sqlalchemy.pool import NullPool

    return server_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def _renew(connection: Connection, held: Held) -> bool:
    ours = (LEASES.c.name == held.name) & (LEASES.c.token == held.token)
    return connection.execute(update(LEASES).where(ours).values(expires=_time(connection, held.seconds))).rowcount == 1


def _remove(connection: Connection, held: Held) -> None:
    connection.execute(delete(LEASES).where(LEASES.c.name == held.name, LEASES.c.token == held.token))


# -- while it is held ----------------------------------------------------------------------------

_held: Final[list[Held]] = []  # by this process, the outermost first
_before: Any = None  # what the signal meant before


@contextmanager
def _listed(held: Held) -> Iterator[None]:
    """Have the lease among those of this process, and its loss told to the main thread."""
    global _before
    if held.main and not any(other.main for other in _held):
        _before = signal.signal(_SIGNAL, _stop)
    _held.append(held)
    try:
        yield
    finally:
        _held.remove(held)
        if held.main and not any(other.main for other in _held):
            signal.signal(_SIGNAL, _before)


def _stop(number: int, frame: FrameType | None) -> None:
    """Stop the main thread; one word for all leases, so each loss is told as what it is."""
    lost = [held for held in _held if held.main and held.lost.is_set() and not held.ended.is_set()]
    if lost:
        raise LeaseLost(_lost(*lost))


def _fence(platform: Platform, connection: Connection) -> None:
    """Refuse what would be written under a lease that is no longer ours."""
    for held in _held:
        if held.platform.ledger_url == platform.ledger_url:
            ours = (LEASES.c.name == held.name) & (LEASES.c.token == held.token)
            if held.lost.is_set() or connection.execute(select(LEASES.c.name).where(ours)).one_or_none() is None:
                held.lost.set()
                raise LeaseLost(_lost(held))


FENCES.append(_fence)


def _beat(held: Held) -> None:
    """Confirm the lease again and again, until the end or the loss."""
    pause = min(_BEAT * held.seconds, _LONGEST_BEAT_S)
    while not held.ended.wait(pause) and not held.lost.is_set():
        with suppress(LedgerError):  # it may answer again before the deadline
            if not held.confirm():
                held.lost.set()


def _watch(held: Held) -> None:
    """Tell the main thread when the lease is lost, again if it goes on, and end the process if it still does.

    It asks nobody, so nothing can hold it up. A machine that slept is found out by the next look.
    """
    look = min(_LOOK_S, held.seconds / 24)
    while not held.lost.wait(look):
        if held.ended.is_set():
            return
        if _clock() >= held.deadline:
            held.lost.set()
    if held.ended.is_set():
        return
    give_up()
    if not held.main:
        return
    for share in (_AGAIN, _END - _AGAIN):
        if held.ended.is_set():
            return
        signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
        if held.ended.wait(share * held.seconds):
            return
    print(f"error: {_lost(held)}; what ran did not stop and is ended", file=sys.stderr, flush=True)
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(ERROR)


def _clock() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _lost(*lost: Held) -> str:
    names = " and ".join(f"'{held.name}'" for held in lost)
    what = f"the lease {names} was" if len(lost) == 1 else f"the leases {names} were"
    return f"{what} lost while this ran (it slept too long, or the ledger did not answer); run it again"


def _who(row: Row[Any]) -> str:
    return Holder(row.place, row.pid, row.started).words() + (f" (run {row.run})" if row.run else "")
