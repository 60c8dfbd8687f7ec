"""Runs that died before they could enter the ledger, or after they had left it: only Prefect knows of them.

Such a run says for ever that it is starting or running, and keeps its deployment's place from the next one. Prefect
tells its process number and not its machine; so where all workers of the pool are on this machine (their names say
so, see `worker_name`) a run without a process is dead, elsewhere one that has been silent for long.
"""

import contextlib
import fcntl
import os
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

POOLS = "needledrop-"  # how the names of our work pools begin, see prefect.yaml
_STARTING = timedelta(seconds=60)  # a run that a living worker has just taken has no process for a moment
_SILENT = timedelta(minutes=10)
_RUN_ID = "PREFECT__FLOW_RUN_ID"  # in the environment of a run's process


def worker_name(name: str | None) -> str:
    """What Prefect calls a worker of this machine."""
    return f"{name or 'worker'}@{platform.node()}"


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


def find(client: "SyncPrefectClient", living: set[str], pool: str | None = None) -> list[UUID]:
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
    return all(name.endswith(f"@{platform.node()}") for name in heard)
