"""Bring a Prefect server to what prefect.yaml says: work pools, deployments, schedules. Again: nothing changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal

from flows.deploy.entries import FILE, Deployment, next_time
from flows.environment import Environment, redact
from flows.errors import USAGE, Refusal

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.responses import DeploymentResponse

POOL_TYPE = "process"

Outcome = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True)
class Done:
    """What became of one pool or deployment."""

    name: str
    what: Outcome
    next_run: str | None = None
    """When it runs by itself next; None where it does not."""


def deploy(environment: Environment, entries: list[Deployment]) -> list[Done]:
    """Create or update the work pools and deployments on the server in force.

    Raises:
        Refusal: there is no server, it does not answer, or it refuses.
    """
    done: list[Done] = []
    with connected(environment) as client:
        done += [Done(name, _pool(client, name)) for name in sorted({entry.work_pool.name for entry in entries})]
        for entry in entries:
            what = _deployment(client, entry)
            times = [next_time(schedule) for schedule in entry.schedules if schedule.active]
            soon = min(times).astimezone(UTC).isoformat(timespec="minutes") if times else None
            done.append(Done(f"{entry.flow().name}/{entry.name}", what, soon))
    return done


def ensure_pool(environment: Environment, name: str) -> None:
    """Make a work pool if there is none, so that a worker may start before anything is deployed.

    Raises:
        Refusal: there is no server, it does not answer, or it refuses.
    """
    with connected(environment) as client:
        _pool(client, name)


@contextmanager
def connected(environment: Environment) -> Iterator["SyncPrefectClient"]:
    """Yield a client of a server that answers and lets us in; its errors become one line."""
    import httpx

    url = environment.prefect_api_url
    if not url:
        raise Refusal("PREFECT_API_URL is not set: there is no server to deploy to; `make stack` starts one", USAGE)
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException

    from flows.registry.tracking import connection_problem

    where = f"Prefect at {redact(url)}"
    if problem := connection_problem(url):
        raise Refusal(f"{where} does not answer ({problem}); start it, or correct PREFECT_API_URL")
    try:
        with get_client(sync_client=True) as client:
            client.read_work_pools(limit=1)
            yield client
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise Refusal(f"{where} refuses us: wrong PREFECT_API_AUTH_STRING (user:password)") from None
        raise Refusal(f"{where}: {error.response.status_code} {error.response.text[:200]}") from None
    except (httpx.HTTPError, PrefectException) as error:
        raise Refusal(f"{where}: {' '.join(str(error).split())[:300]}") from None


def _pool(client: "SyncPrefectClient", name: str) -> Outcome:
    """Make the pool if there is none; one that is there, of whatever type, belongs to the platform team."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        client.read_work_pool(name)
        return "unchanged"
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type=POOL_TYPE, base_job_template=template))
        return "created"


def _deployment(client: "SyncPrefectClient", entry: Deployment) -> Outcome:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.callables import parameter_schema

    flow = entry.flow()
    schema = parameter_schema(flow).model_dump_for_openapi()
    if unknown := entry.parameters.keys() - schema["properties"].keys():
        raise Refusal(f"{FILE}: {entry.name} has no parameter {', '.join(sorted(unknown))}", USAGE)
    schedules = [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=item.cron, timezone=item.timezone), active=item.active, slug=item.slug
        )
        for item in entry.schedules
    ]
    wanted: dict[str, Any] = {
        "entrypoint": entry.entrypoint,
        "description": entry.description,
        "parameters": entry.parameters,
        "parameter_openapi_schema": schema,
        "pull_steps": entry.pull,
        "work_pool_name": entry.work_pool.name,
        "enforce_parameter_schema": True,
    }
    try:
        found = client.read_deployment_by_name(f"{flow.name}/{entry.name}")
    except ObjectNotFound:
        found = None
    if found is not None and _same(found, entry, wanted, schedules):
        return "unchanged"
    strategy = ConcurrencyLimitStrategy(entry.concurrency_limit.collision_strategy)
    client.create_deployment(
        flow_id=client.create_flow_from_name(flow.name),
        name=entry.name,
        schedules=schedules,
        concurrency_limit=entry.concurrency_limit.limit,
        concurrency_options=ConcurrencyOptions(collision_strategy=strategy),
        **wanted,
    )
    return "created" if found is None else "updated"


def _same(
    found: "DeploymentResponse",
    entry: Deployment,
    wanted: dict[str, Any],
    schedules: "list[DeploymentScheduleCreate]",
) -> bool:
    """Tell whether the server has it already. A schedule that somebody switched off stays off until one differs."""
    if any(getattr(found, name) != value for name, value in wanted.items()):
        return False
    limit, options = found.global_concurrency_limit, found.concurrency_options
    if limit is None or limit.limit != entry.concurrency_limit.limit:
        return False
    if options is None or options.collision_strategy.value != entry.concurrency_limit.collision_strategy:
        return False
    return {_when(item.schedule) for item in found.schedules} == {_when(item.schedule) for item in schedules}


def _when(schedule: Any) -> tuple[str, str]:
    return getattr(schedule, "cron", str(schedule)), str(getattr(schedule, "timezone", ""))
