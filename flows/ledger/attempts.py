"""Attempts: the runs of deployed flows, from their first moment to their end, and who died on the way.

A run is in the ledger as an attempt, which lives as long as its own lease. One that still says `running` and has no
living lease is dead, on whichever machine it ran; the reaper finds it, frees what it held, and says so in Prefect. It
works at the start of every worker and of every deployed run. What a dead run had computed stays in its workspace,
where the next run goes on from it.

A run that died before it could enter the ledger, or after it had left it, is known to Prefect alone. It says for ever
that it is starting or running, and keeps its deployment's place from the next one. Prefect tells its process number
and not its machine; so where all workers of the pool are on this machine (their names say so, see `worker_name`) a run
without a process is dead, elsewhere one that has been silent for long.
"""

import contextlib
import fcntl
import json
import logging
import os
import platform as machine
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psutil  # type: ignore[import-untyped]
from sqlalchemy import Column, Float, Index, Integer, Table, Text, delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from flows.environment import public, retrying
from flows.ledger.database import TABLES, reading, transaction
from flows.ledger.errors import LedgerAway, LedgerBusy
from flows.ledger.lease import LeaseLost, free_dead, lease, leases, me, moment, place
from flows.ledger.notices import DAY, alike, forget, note, pass_by
from flows.workspace import runs
from flows.workspace.lock import Busy, hold
from flows.workspace.platform import Platform
from flows.workspace.processes import reap as kill_leftovers
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State


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
    Column("state", Text, nullable=False),  # running, finished, refused (its gate), skipped, failed, crashed
    Column("inputs", Text),  # digest of what it was made from
    Column("result", Text, nullable=False),
    Column("told", Integer, nullable=False),  # 1: Prefect knows that it crashed
)

Index("attempts_by_state", ATTEMPTS.c.state, ATTEMPTS.c.told)
Index("attempts_by_flow", ATTEMPTS.c.flow, ATTEMPTS.c.ended)

LEASE_S = 180.0  # rides out a database that is away for a minute

_PATIENCE_S = 90.0  # for the end to be written; half of the lease

POOLS: Final = "needledrop-"
"""How the names of our work pools begin, see prefect.yaml."""
_OURS = "needledrop-"  # and those of our flows
_DIED = "Its process died without a word; the next run goes on from where it was."
_LINE = 300  # characters
_STARTING = timedelta(seconds=60)  # a run that a living worker has just taken has no process for a moment
_SILENT = timedelta(minutes=10)
_RUN_ID = "PREFECT__FLOW_RUN_ID"  # in the environment of a run's process

log = logging.getLogger(__name__)


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
    with _telling(platform), lease(platform, lease_name(run), LEASE_S, run=run):
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
            _record_end(platform, flow, this)


@contextmanager
def _telling(platform: Platform) -> Iterator[None]:
    """Tell what the body has noted, at its end; who is stopped from outside has no time for that, and leaves it."""
    try:
        yield
    except Exception:
        with contextlib.suppress(LeaseLost):
            pass_by(platform)
        raise
    pass_by(platform)


def _record_end(platform: Platform, flow: str, this: Attempt) -> None:
    """Write how a run ended; a database that is away for a minute must not make a finished run look dead."""
    # A run that was taken for dead stays so.
    mine = (ATTEMPTS.c.run == this.run) & (ATTEMPTS.c.state == "running")
    end = {"state": this.state, "ended": moment(), "inputs": this.inputs, "result": json.dumps(this.result)}

    def write() -> None:
        with transaction(platform) as connection:
            if connection.execute(update(ATTEMPTS).where(mine).values(**end)).rowcount and this.state != "skipped":
                _note_end(platform, connection, flow, this.run, this.result["error"] if this.state == "failed" else "")

    retrying(_PATIENCE_S, LedgerAway, LedgerBusy)(write)


def _note_end(platform: Platform, connection: Connection, flow: str, run: str, error: str, how: str = "failed") -> None:
    """Note that a run failed, once a day for the same reason; another end makes that reason news again."""
    prefix = f"failed/{flow}/"
    key = f"{prefix}{alike(error)}" if error else None
    forget(connection, prefix, key)
    if key is not None:
        server = public(platform.environment.prefect_api_url or "")
        where = f"{server.removesuffix('/api')}/runs/flow-run/{run}" if server else f"run {run}"
        name = flow.removeprefix(_OURS)
        note(connection, key, f"needledrop: {name} {how}\n{_short(error)}\n{where}", again=DAY)


def _short(error: str) -> str:
    """The first line, and the one further down that says what went wrong."""
    first, *more = [line.strip() for line in error.splitlines() if line.strip()] or [""]
    told = [line for line in more if "error" in line.lower()][:1] or more[-1:]
    return "\n".join(line[:_LINE] for line in [first, *told])


def lease_name(run: str) -> str:
    """The lease by which an attempt lives."""
    return f"run/{run}"


def last_finished(connection: Connection, *flows: str, refused: bool = False) -> Row[Any] | None:
    """The run of any of `flows` that ended well last; skipped ones made nothing.

    Args:
        connection: of the ledger.
        flows: their names.
        refused: also those whose files are whole, and whose gate was refused.
    """
    states = ("finished", "refused") if refused else ("finished",)
    ours = ATTEMPTS.c.flow.in_(flows) & ATTEMPTS.c.state.in_(states)
    return connection.execute(select(ATTEMPTS).where(ours).order_by(ATTEMPTS.c.ended.desc()).limit(1)).one_or_none()


def last_here(connection: Connection, workspace: Workspace, run: str, *flows: str) -> Row[Any] | None:
    """The last run of any of `flows` in `workspace` on this machine, however it ended; not `run` itself."""
    place = ATTEMPTS.c.place == me().place
    ours = ATTEMPTS.c.flow.in_(flows) & place & (ATTEMPTS.c.workspace == str(workspace.root)) & (ATTEMPTS.c.run != run)
    return connection.execute(select(ATTEMPTS).where(ours).order_by(ATTEMPTS.c.began.desc()).limit(1)).one_or_none()


def _running(connection: Connection) -> list[Row[Any]]:
    """Every run that has not said how it ended."""
    return list(connection.execute(select(ATTEMPTS).where(ATTEMPTS.c.state == "running")))


# -- who died ------------------------------------------------------------------------------------


def reap(platform: Platform, idle_pool: str | None = None) -> list[str]:
    """Take dead runs for crashed; return their ids.

    Their leases are freed, the processes that they left on this machine are killed, and Prefect is told;
    where Prefect does not answer, the next reaper tells it.

    Args:
        platform: names the ledger and Prefect.
        idle_pool: a pool that has no living worker on this machine.
    """
    with transaction(platform) as connection:
        free_dead(connection)
        held = {row.name for row in leases(connection)}
        dead = [row for row in _running(connection) if lease_name(row.run) not in held]
        ids = [row.run for row in dead]
        crashed = update(ATTEMPTS).where(ATTEMPTS.c.run.in_(ids))
        connection.execute(crashed.values(state="crashed", ended=moment()))
        for row in dead:
            _note_end(platform, connection, row.flow, row.run, _DIED, "crashed")
        silent = (ATTEMPTS.c.state == "crashed") & (ATTEMPTS.c.told == 0)
        untold = [row.run for row in connection.execute(select(ATTEMPTS.c.run).where(silent))]
    _clear(dead)
    pass_by(platform)
    if untold and platform.environment.prefect_api_url and _tell_prefect(untold):
        with transaction(platform) as connection:
            connection.execute(update(ATTEMPTS).where(ATTEMPTS.c.run.in_(untold)).values(told=1))
    return ids + (_reap_unrecorded(platform, idle_pool) if platform.environment.prefect_api_url else [])


def _reap_unrecorded(platform: Platform, idle_pool: str | None) -> list[str]:
    """Find the dead runs that the ledger knows nothing of, and tell Prefect; return their ids."""
    with reading(platform) as connection:
        living = {row.run for row in leases(connection)}
    try:
        with _prefect() as client:
            found = {run: client.read_flow_run(run) for run in unrecorded(client, living, idle_pool)}
            flows = {str(run): client.read_flow(one.flow_id).name for run, one in found.items()}
    except _unanswered() as error:
        log.warning("Prefect was not asked for dead runs: %s", error)
        return []
    if not flows or not _tell_prefect(list(flows)):
        return []
    with transaction(platform) as connection:
        for run, flow in flows.items():
            _note_end(platform, connection, flow, run, _DIED, "crashed")
    pass_by(platform)
    return list(flows)


def _clear(dead: Iterable[Row[Any]]) -> None:
    """Kill what dead runs left running on this machine."""
    here = place()
    for root in {row.workspace for row in dead if row.place == here}:
        workspace = Workspace(Path(root))
        if workspace.runs.is_dir():
            # Busy: its next run is there already, and has cleared up.
            with contextlib.suppress(Busy), hold(workspace):
                kill_leftovers(runs.unfinished(workspace))


def _tell_prefect(ids: list[str]) -> bool:
    """Set the runs, and those inside them at any depth, to crashed; False where Prefect does not answer."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterParentFlowRunId
    from prefect.states import Crashed

    known = [UUID(run) for run in ids if _is_id(run)]
    try:
        with _prefect() as client:
            level = (
                client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=known))) if known else []
            )
            found = list(level)
            while level:  # a deployed run holds the retrain, and that the gate
                inside = FlowRunFilterParentFlowRunId(any_=[run.id for run in level])
                level = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=inside))
                found += level
            for run in found:
                if run.state is None or not run.state.is_final():
                    state: State[Any] = Crashed(message=_DIED)
                    client.set_flow_run_state(run.id, state, force=True)
    except _unanswered() as error:
        log.warning("Prefect was not told of %d dead runs: %s", len(ids), error)
        return False
    return True


def _prefect() -> "SyncPrefectClient":
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def _unanswered() -> tuple[type[Exception], ...]:
    import httpx
    from prefect.exceptions import PrefectException

    return (httpx.HTTPError, PrefectException, OSError)


def _is_id(run: str) -> bool:
    try:
        UUID(run)
    except ValueError:
        return False
    return True


# -- runs that Prefect alone knows -----------------------------------------------------------------


def worker_name(name: str | None) -> str:
    """What Prefect calls a worker of this machine."""
    return f"{name or 'worker'}@{machine.node()}"


def alone(folder: Path, pool: str) -> bool:
    """Tell whether no other worker of the pool lives on this machine; hold the place until this process ends.

    The lock stays with the process when it becomes Prefect's worker; what that starts does not inherit it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / f"worker-{pool}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    os.set_inheritable(handle, True)
    return True


def unrecorded(client: "SyncPrefectClient", living: set[str], pool: str | None = None) -> list[UUID]:
    """Return the deployed runs that nobody is at, though Prefect believes so.

    Args:
        client: of the Prefect server.
        living: runs that the ledger knows to be alive.
        pool: a pool that has no living worker on this machine: none of its runs can be about to start here.
    """
    runs = [run for run in _active(client) if str(run.id) not in living]
    if not runs:
        return []
    here, now, found = _at_work(), datetime.now(UTC), []
    for run in runs:
        if str(run.id) in here or run.state is None:
            continue
        age = now - run.state.timestamp
        ours = _all_here(client, str(run.work_pool_name), now)
        if age > _SILENT or (ours and (run.work_pool_name == pool or age > _STARTING)):
            found.append(run.id)
    return found


def _active(client: "SyncPrefectClient") -> "list[FlowRun]":
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        WorkPoolFilter,
        WorkPoolFilterName,
    )
    from prefect.client.schemas.objects import StateType

    types: list[Any] = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=types))
    pools = [pool.name for pool in client.read_work_pools() if pool.name.startswith(POOLS)]
    named = WorkPoolFilter(name=WorkPoolFilterName(any_=pools))
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state), work_pool_filter=named, limit=200)
    # Another kind of pool, such as Kubernetes, names more than a number, and looks after its runs itself.
    return [run for run in runs if run.deployment_id and (run.infrastructure_pid or "0").isdecimal()]


def _at_work() -> set[str]:
    """The runs that have a process of Prefect's on this machine."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone meanwhile, or another user's
            run = process.environ().get(_RUN_ID)
            if run and any("prefect" in word for word in process.cmdline()):
                found.add(run)
    return found


def _all_here(client: "SyncPrefectClient", pool: str, now: datetime) -> bool:
    """Tell whether every worker that Prefect has lately heard of is on this machine."""
    workers = client.read_workers_for_work_pool(pool)
    heard = [one.name for one in workers if one.last_heartbeat_time and now - one.last_heartbeat_time < _SILENT]
    return all(name.endswith(f"@{machine.node()}") for name in heard)
