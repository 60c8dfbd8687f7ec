"""Attempts: each run of a deployed flow, in the ledger from its first moment to its end.

An attempt lives as long as its own lease. One that still says `running` and has no living lease is
dead, on whichever machine it ran: flows/ledger/reaper.py finds it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, Float, Index, Integer, Table, Text, delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from flows.environment import retrying
from flows.ledger.database import TABLES, transaction
from flows.ledger.errors import LedgerAway, LedgerBusy
from flows.ledger.lease import lease, me, moment
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

ATTEMPTS: Final = Table(
    "attempts",
    TABLES,
    Column("run", Text, primary_key=True),  # Prefect's flow run id
    Column("flow", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Float, nullable=False),
    Column("workspace", Text, nullable=False),
    Column("began", Text, nullable=False),
    Column("ended", Text),
    Column("state", Text, nullable=False),  # running, finished, skipped, failed, crashed
    Column("inputs", Text),  # digest of what it was made from
    Column("result", Text, nullable=False),
    Column("told", Integer, nullable=False),  # 1: Prefect knows that it crashed
)

Index("attempts_by_state", ATTEMPTS.c.state, ATTEMPTS.c.told)
Index("attempts_by_flow", ATTEMPTS.c.flow, ATTEMPTS.c.ended)

LEASE_S = 180.0  # rides out a database that is away for a minute

_PATIENCE_S = 90.0  # for the end to be written; half of the lease


@dataclass
class Attempt:
    """The run that is going on; what is set here is recorded at its end."""

    run: str
    state: str = "finished"
    inputs: str | None = None
    result: dict[str, Any] = field(default_factory=dict)


@contextmanager
def attempt(platform: Platform, flow: str, run: str) -> Iterator[Attempt]:
    """Record a run of `flow` while the body is at it.

    Raises:
        Leased: this very run is at work already.
        LeaseLost: it was silent for so long that others took it for dead; it has stopped.
    """
    this = Attempt(run)
    with lease(platform, lease_name(run), LEASE_S, run=run):
        holder = me()
        with transaction(platform) as connection:
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.run == run))  # Prefect may start a run again
            connection.execute(
                insert(ATTEMPTS).values(
                    run=run,
                    flow=flow,
                    place=holder.place,
                    pid=holder.pid,
                    started=holder.started,
                    workspace=str(platform.workspace.root),
                    began=moment(),
                    state="running",
                    result="{}",
                    told=0,
                )
            )
        try:
            yield this
        except BaseException as error:
            this.state, this.result = "failed", {"error": str(error) or type(error).__name__}
            raise
        finally:
            _record_end(platform, this)


def _record_end(platform: Platform, this: Attempt) -> None:
    """Write how a run ended; a database that is away for a minute must not make a finished run look dead."""
    # A run that was taken for dead stays so.
    mine = (ATTEMPTS.c.run == this.run) & (ATTEMPTS.c.state == "running")
    end = {"state": this.state, "ended": moment(), "inputs": this.inputs, "result": json.dumps(this.result)}

    def write() -> None:
        with transaction(platform) as connection:
            connection.execute(update(ATTEMPTS).where(mine).values(**end))

    retrying(_PATIENCE_S, LedgerAway, LedgerBusy)(write)


def lease_name(run: str) -> str:
    """The lease by which an attempt lives."""
    return f"run/{run}"


def last_finished(connection: Connection, *flows: str) -> Row[Any] | None:
    """The run of any of `flows` that ended well last; skipped ones made nothing."""
    ours = ATTEMPTS.c.flow.in_(flows) & (ATTEMPTS.c.state == "finished")
    return connection.execute(select(ATTEMPTS).where(ours).order_by(ATTEMPTS.c.ended.desc()).limit(1)).one_or_none()


def last_here(connection: Connection, workspace: Workspace, run: str, *flows: str) -> Row[Any] | None:
    """The last run of any of `flows` in `workspace` on this machine, however it ended; not `run` itself."""
    place = ATTEMPTS.c.place == me().place
    ours = ATTEMPTS.c.flow.in_(flows) & place & (ATTEMPTS.c.workspace == str(workspace.root)) & (ATTEMPTS.c.run != run)
    return connection.execute(select(ATTEMPTS).where(ours).order_by(ATTEMPTS.c.began.desc()).limit(1)).one_or_none()


def running(connection: Connection) -> list[Row[Any]]:
    """Every run that has not said how it ended."""
    return list(connection.execute(select(ATTEMPTS).where(ATTEMPTS.c.state == "running")))
