"""What prefect.yaml says: the deployments, checked before a server hears of them."""

import importlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.errors import USAGE, Refusal

if TYPE_CHECKING:
    from prefect import Flow

FILE = "prefect.yaml"


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


def next_time(schedule: Schedule, where: str = "", now: datetime | None = None) -> datetime:
    """When a schedule fires next, after `now`: this moment, where none is given.

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
        began = now.astimezone(zone) if now else datetime.now(zone)
        # By the clock on the wall, as Prefect does it: six o'clock stays six where the clocks change in between.
        found: datetime = croniter(schedule.cron, began.replace(tzinfo=None)).get_next(datetime)  # type: ignore[no-untyped-call]
    except CroniterBadDateError:
        raise Refusal(f"{where}the schedule '{schedule.cron}' never fires: there is no such day", USAGE) from None
    except (CroniterError, ValueError, KeyError) as error:
        raise Refusal(f"{where}'{schedule.cron}' is no cron schedule ({error}); weekly is '0 3 * * 1'", USAGE) from None
    return found.replace(tzinfo=zone, fold=began.fold)


def _changed(entry: Deployment, cron: str | None, jitter_s: int | None) -> Deployment:
    more: dict[str, Any] = {}
    if cron is not None:
        more["schedules"] = [schedule.model_copy(update={"cron": cron}) for schedule in entry.schedules]
    if jitter_s is not None:
        more["parameters"] = entry.parameters | {"jitter_s": jitter_s}
    return entry.model_copy(update=more)
