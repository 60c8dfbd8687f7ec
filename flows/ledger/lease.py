"""Leases: a name that one holder at a time may have, in the ledger, so that it binds every machine.

A holder renews its lease while it works. One that dies on this machine is found out at once, one
elsewhere when its lease runs out. One that slept past the end of its lease finds it taken, and stops.
Clocks of the machines may differ by seconds; a lease is longer than that.
"""

import contextlib
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, Final

from sqlalchemy import Column, Float, Integer, Table, Text, delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from flows.errors import BUSY, Refusal
from flows.ledger.database import TABLES, transaction
from flows.ledger.errors import LedgerError
from flows.workspace.holder import Holder, me
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

_SIGNAL = signal.SIGUSR2  # of the heartbeat to the main thread: stop, the lease is lost
_LOOK_S = 1.0  # how often one who waits looks again


class Leased(Refusal):
    """Somebody else has the lease."""

    code = BUSY


class LeaseLost(Refusal):
    """The lease ran out and was taken, or could not be renewed in time; the work was stopped."""


@dataclass(frozen=True)
class Held:
    """A lease that this process has."""

    name: str
    token: str
    platform: Platform
    seconds: float

    def renew(self) -> bool:
        """Make it last `seconds` from now; False where it is no longer ours."""
        with transaction(self.platform, patience_s=0.0) as connection:  # the next beat tries again
            ours = (LEASES.c.name == self.name) & (LEASES.c.token == self.token)
            done = connection.execute(update(LEASES).where(ours).values(expires=moment(self.seconds)))
            return done.rowcount == 1

    def check(self) -> None:
        """Renew it before a step that must not be done twice.

        Raises:
            LeaseLost: it is no longer ours.
        """
        if not self.renew():
            raise LeaseLost(_lost(self.name))


@contextmanager
def lease(
    platform: Platform,
    name: str,
    seconds: float = 60.0,
    wait_s: float | None = 0.0,
    run: str = "",
) -> Iterator[Held]:
    """Have the lease `name` while the body runs.

    Enter it in the main thread: only that can be stopped when the lease is lost.

    Args:
        platform: names the ledger.
        name: what must not be done twice at once.
        seconds: how long a holder that says nothing more keeps it.
        wait_s: how long to wait for it; 0 refuses at once, None waits for ever.
        run: who works under it, for messages and for the reaper.

    Raises:
        Leased: another has it.
        LeaseLost: it was lost while the body ran, which was stopped.
        LedgerError: the ledger does not answer.
    """
    held = _acquire(platform, name, seconds, wait_s, run)
    ended, lost = threading.Event(), threading.Event()
    main = threading.current_thread() is threading.main_thread()

    def stop(number: int, frame: FrameType | None) -> None:
        if not ended.is_set():
            raise LeaseLost(_lost(name))

    before: Any = signal.signal(_SIGNAL, stop) if main else None
    beats = threading.Thread(target=_beat, args=(held, ended, lost, main), name=f"lease {name}", daemon=True)
    beats.start()
    try:
        yield held
    except BaseException as error:
        if lost.is_set() and not isinstance(error, LeaseLost):
            raise LeaseLost(_lost(name)) from error
        raise
    finally:
        ended.set()
        beats.join()
        if main:
            signal.signal(_SIGNAL, before)
        if not lost.is_set():
            # Where the ledger does not answer now, the lease runs out by itself.
            with contextlib.suppress(LedgerError), transaction(platform) as connection:
                connection.execute(delete(LEASES).where(LEASES.c.name == name, LEASES.c.token == held.token))
    if lost.is_set():
        raise LeaseLost(_lost(name))


def leases(connection: Connection) -> list[Row[Any]]:
    """Every lease, by name."""
    return list(connection.execute(select(LEASES).order_by(LEASES.c.name)))


def free_dead(connection: Connection) -> list[str]:
    """Take away the leases whose holders are dead, or silent for too long; return their names."""
    gone = [row.name for row in leases(connection) if is_dead(row)]
    connection.execute(delete(LEASES).where(LEASES.c.name.in_(gone)))
    return gone


def is_dead(row: Row[Any]) -> bool:
    """Tell whether the holder of a lease is gone: known here, elsewhere by its silence."""
    life = Holder(row.place, row.pid, row.started).life()
    return life == "dead" or row.expires <= moment()


def moment(later_s: float = 0.0) -> str:
    """Return the time now, or `later_s` seconds later, as text that sorts by time."""
    return (datetime.now(UTC) + timedelta(seconds=later_s)).isoformat(timespec="milliseconds")


def _acquire(platform: Platform, name: str, seconds: float, wait_s: float | None, run: str) -> Held:
    held = Held(name, secrets.token_hex(8), platform, seconds)
    until = None if wait_s is None else time.monotonic() + wait_s
    told = False
    while True:
        with transaction(platform) as connection:
            other = _take(connection, held, run)
        if other is None:
            return held
        who = f"{_who(other)} has '{name}' since {other.acquired}"
        if until is not None and time.monotonic() >= until:
            raise Leased(f"busy: {who}; wait for it to end, or stop it first")
        if not told:
            print(f"waiting: {who}", file=sys.stderr, flush=True)
            told = True
        time.sleep(_LOOK_S if until is None else min(_LOOK_S, max(0.0, until - time.monotonic())))


def _take(connection: Connection, held: Held, run: str) -> Row[Any] | None:
    """Take the lease if nobody living has it; else return who has it."""
    other = connection.execute(select(LEASES).where(LEASES.c.name == held.name)).one_or_none()
    if other is not None:
        if not is_dead(other):
            return other
        connection.execute(delete(LEASES).where(LEASES.c.name == held.name))
    holder = me()
    connection.execute(
        insert(LEASES).values(
            name=held.name,
            token=held.token,
            place=holder.place,
            pid=holder.pid,
            started=holder.started,
            run=run,
            acquired=moment(),
            expires=moment(held.seconds),
        )
    )
    return None


def _beat(held: Held, ended: threading.Event, lost: threading.Event, main: bool) -> None:
    """Renew until the end; when that fails for good, tell the main thread to stop."""
    pause = held.seconds / 4
    alive_until = time.time() + held.seconds
    while not ended.wait(pause):
        asked = time.time()
        try:
            ours = held.renew()
            alive_until = asked + held.seconds
        except LedgerError:  # it may answer again before the lease runs out
            ours = time.time() < alive_until
        if not ours:
            lost.set()
            if main and not ended.is_set():
                signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
            return


def _lost(name: str) -> str:
    return f"the lease '{name}' was lost while this ran (it slept too long, or the ledger did not answer); run it again"


def _who(row: Row[Any]) -> str:
    return Holder(row.place, row.pid, row.started).words() + (f" (run {row.run})" if row.run else "")
