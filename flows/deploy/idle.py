"""Why nothing runs by itself: deployments that are switched off, runs that wait for a worker that is not there."""

from collections import Counter
from typing import TYPE_CHECKING

from flows.environment import Environment
from flows.ledger.attempts import POOLS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse


def reasons(environment: Environment) -> list[str]:
    """Return one sentence for each reason, with the next step; none where all is well.

    Raises:
        Refusal: there is no server, it does not answer, or it refuses.
    """
    from flows.deploy.apply import connected

    with connected(environment) as client:
        ours = [one for one in client.read_deployments(limit=200) if (one.work_pool_name or "").startswith(POOLS)]
        return [*_switched_off(ours), *_unattended(client, ours)]


def _switched_off(deployments: "list[DeploymentResponse]") -> list[str]:
    found = []
    for one in sorted(deployments, key=lambda deployment: deployment.name):
        if one.paused:
            found.append(f"{one.name} is paused, so no schedule starts it; resume it on Prefect's page (Deployments)")
        elif one.schedules and not any(schedule.active for schedule in one.schedules):
            found.append(
                f"the schedule of {one.name} is off; switch it on on Prefect's page (Deployments), if it shall run"
            )
    return found


def _unattended(client: "SyncPrefectClient", deployments: "list[DeploymentResponse]") -> list[str]:
    """Pools that have something to run and no living worker."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName
    from prefect.client.schemas.objects import WorkerStatus

    state = FlowRunFilterState(name=FlowRunFilterStateName(any_=["Late"]))
    late = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state), limit=200)
    pool_of = {one.id: str(one.work_pool_name) for one in deployments}
    waiting = Counter(pool_of[run.deployment_id] for run in late if run.deployment_id in pool_of)
    scheduled = {str(one.work_pool_name) for one in deployments if any(item.active for item in one.schedules)}
    found = []
    for pool in sorted(scheduled | set(waiting)):
        workers = [one for one in client.read_workers_for_work_pool(pool) if one.status == WorkerStatus.ONLINE]
        if not workers:
            runs = (
                f"{waiting[pool]} late run{'s' if waiting[pool] > 1 else ''} wait" if waiting[pool] else "nothing runs"
            )
            found.append(
                f"no worker polls {pool}, so {runs}; start `needledrop worker --pool {pool}` on a machine that shall"
            )
        elif client.read_work_pool(pool).is_paused:
            found.append(f"the work pool {pool} is paused; resume it on Prefect's page (Work Pools)")
    return found
