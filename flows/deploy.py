"""Bring a Prefect server to what prefect.yaml says: work pools, deployments, schedules. Again: nothing changes."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.environment import Environment, redact
from flows.exits import USAGE, Refusal

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.responses import DeploymentResponse

FILE = "prefect.yaml"
POOL_TYPE = "process"

Outcome = Literal["created", "updated", "unchanged"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Strict):
    """When a deployment runs by itself."""

    cron: str
    timezone: str
    slug: str
    active: bool = True


class Limit(_Strict):
    """How many runs at once, and what happens to further ones."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]


class Pool(_Strict):
    """The work pool whose workers run it."""

    name: str


class Deployment(_Strict):
    """One entry of prefect.yaml, in Prefect's own words."""

    name: str
    description: str
    entrypoint: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: list[Schedule]
    concurrency_limit: Limit
    work_pool: Pool
    pull: list[dict[str, Any]] = Field(min_length=1)

    def flow(self) -> "Flow[..., Any]":
        """The flow that the entry names."""
        file, _, name = self.entrypoint.partition(":")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        found: Flow[..., Any] = getattr(module, name)
        return found


@dataclass(frozen=True)
class Done:
    """What became of one pool or deployment."""

    name: str
    what: Outcome
    next_run: str | None = None
    """When it runs by itself next; None where it does not."""


def read_deployments(root: Path, retrain_cron: str | None = None, jitter_s: int | None = None) -> list[Deployment]:
    """Read prefect.yaml, with another schedule for `retrain` where one is given.

    Raises:
        Refusal: the file is not right, or a schedule never fires; the entry is named.
    """
    path = root / FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = [Deployment.model_validate(entry) for entry in content["deployments"]]
    except FileNotFoundError:
        raise Refusal(f"no {FILE} in {root}", USAGE) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refusal(f"{FILE}: {first['input']!r} at {where}: {first['msg'].lower()}", USAGE) from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise Refusal(f"{FILE}: {' '.join(str(error).split())}", USAGE) from None
    entries = [_changed(entry, retrain_cron, jitter_s) if entry.name == "retrain" else entry for entry in entries]
    for entry in entries:
        for schedule in entry.schedules:
            next_time(schedule, f"{entry.name}: ")
    return entries


def next_time(schedule: Schedule, where: str = "") -> datetime:
    """When a schedule fires next.

    Raises:
        Refusal: never, or its words cannot be read.
    """
    # Prefect's scheduler plans with this copy; another could disagree about what fires.
    from prefect._vendor.croniter.croniter import CroniterBadDateError, CroniterError, croniter

    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise Refusal(f"{where}no time zone '{schedule.timezone}'; write it as Europe/Berlin or UTC", USAGE) from None
    try:
        found: datetime = croniter(schedule.cron, datetime.now(zone)).get_next(datetime)  # type: ignore[no-untyped-call]
    except CroniterBadDateError:
        raise Refusal(f"{where}the schedule '{schedule.cron}' never fires: there is no such day", USAGE) from None
    except (CroniterError, ValueError, KeyError) as error:
        raise Refusal(f"{where}'{schedule.cron}' is no cron schedule ({error}); weekly is '0 3 * * 1'", USAGE) from None
    return found


def deploy(environment: Environment, entries: list[Deployment]) -> list[Done]:
    """Create or update the work pools and deployments on the server in force.

    Raises:
        Refusal: there is no server, it does not answer, or it refuses.
    """
    done: list[Done] = []
    with _client(environment) as client:
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
    with _client(environment) as client:
        _pool(client, name)


def _changed(entry: Deployment, cron: str | None, jitter_s: int | None) -> Deployment:
    more: dict[str, Any] = {}
    if cron is not None:
        more["schedules"] = [schedule.model_copy(update={"cron": cron}) for schedule in entry.schedules]
    if jitter_s is not None:
        more["parameters"] = entry.parameters | {"jitter_s": jitter_s}
    return entry.model_copy(update=more)


@contextmanager
def _client(environment: Environment) -> Iterator["SyncPrefectClient"]:
    """Yield a client of a server that answers and lets us in; its errors become one line."""
    import httpx

    url = environment.prefect_api_url
    if not url:
        raise Refusal("PREFECT_API_URL is not set: there is no server to deploy to; `make stack` starts one", USAGE)
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException

    from flows.tracking import connection_problem

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
