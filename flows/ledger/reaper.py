"""The reaper: finds runs that died without a word, frees what they held, and says so in Prefect.

It runs at the start of every worker and of every deployed run. What a dead run had computed stays in
its workspace, where the next run goes on from it.
"""

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.engine import Row

from flows.ledger.attempts import ATTEMPTS, lease_name, running
from flows.ledger.database import transaction
from flows.ledger.lease import free_dead, leases, moment, place
from flows.workspace import runs
from flows.workspace.lock import Busy, hold
from flows.workspace.platform import Platform
from flows.workspace.processes import reap as kill_leftovers
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

log = logging.getLogger(__name__)


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
        dead = [row for row in running(connection) if lease_name(row.run) not in held]
        ids = [row.run for row in dead]
        crashed = update(ATTEMPTS).where(ATTEMPTS.c.run.in_(ids))
        connection.execute(crashed.values(state="crashed", ended=moment()))
        silent = (ATTEMPTS.c.state == "crashed") & (ATTEMPTS.c.told == 0)
        untold = [row.run for row in connection.execute(select(ATTEMPTS.c.run).where(silent))]
    _clear(dead)
    if untold and platform.environment.prefect_api_url and _tell_prefect(untold):
        with transaction(platform) as connection:
            connection.execute(update(ATTEMPTS).where(ATTEMPTS.c.run.in_(untold)).values(told=1))
    return ids + (_lost(platform, idle_pool) if platform.environment.prefect_api_url else [])


def _lost(platform: Platform, idle_pool: str | None) -> list[str]:
    """Find the dead runs that the ledger knows nothing of, and tell Prefect; return their ids."""
    from flows.ledger import lost

    with transaction(platform) as connection:
        living = {row.run for row in leases(connection)}
    try:
        with _prefect() as client:
            ids = [str(run) for run in lost.find(client, living, idle_pool)]
    except _unanswered() as error:
        log.warning("Prefect was not asked for dead runs: %s", error)
        return []
    return ids if ids and _tell_prefect(ids) else []


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
    from prefect.client.schemas.objects import State
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
                    state: State[Any] = Crashed(
                        message="Its process died without a word; the next run goes on from where it was."
                    )
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
