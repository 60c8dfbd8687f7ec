"""`needledrop deploy` against a real Prefect server: what it makes, that again is nothing, and what it refuses."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.deploy.apply import Done, deploy
from flows.deploy.entries import Schedule, next_time, read_deployments
from flows.environment import Environment
from flows.errors import Refusal

ROOT = Path(__file__).parents[2]


def entries(**options: Any) -> Any:
    return read_deployments(ROOT, **options)


def outcomes(done: list[Done]) -> set[str]:
    return {one.what for one in done}


def test_it_makes_everything_once_and_what_a_person_switched_off_stays_off(prefect_server: str) -> None:
    from prefect.client.orchestration import get_client

    environment = Environment.model_validate({"prefect_api_url": prefect_server})
    with get_client(sync_client=True) as client:  # an earlier test may have made some
        for one in client.read_deployments():
            client.delete_deployment(one.id)
        for pool in client.read_work_pools():
            client.delete_work_pool(pool.name)
    first = deploy(environment, entries())
    assert outcomes(first) == {"created"}
    names = {one.name for one in first}
    assert {"needledrop-cpu", "needledrop-gpu", "needledrop-retrain/retrain", "needledrop-monitor/monitor"} <= names
    assert {"needledrop-promote/promote", "needledrop-rollback/rollback", "needledrop-watch/watch"} <= names
    assert "needledrop-retire/retire" in names
    assert "needledrop-approve/approve" in names
    with get_client(sync_client=True) as client:
        made = client.read_deployment_by_name("needledrop-retrain/retrain")
        (schedule,) = made.schedules
        assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * 1", "Europe/Berlin")  # type: ignore[union-attr]
        assert made.global_concurrency_limit is not None and made.global_concurrency_limit.limit == 1
        assert made.concurrency_options is not None and made.concurrency_options.collision_strategy.value == "ENQUEUE"
        assert made.pull_steps == [{"flows.deploy.checkout.pull": {"line": "pipeline"}}]
        assert str(ROOT) not in made.model_dump_json(), "no path of the deployer's"
        client.update_deployment_schedule(made.id, schedule.id, active=False)

    assert outcomes(deploy(environment, entries())) == {"unchanged"}
    with get_client(sync_client=True) as client:
        assert client.read_deployment_by_name("needledrop-retrain/retrain").schedules[0].active is False

    again = {one.name: one.what for one in deploy(environment, entries(retrain_cron="*/5 * * * *", jitter_s=0))}
    assert again.pop("needledrop-retrain/retrain") == "updated"
    assert set(again.values()) == {"unchanged"}
    with get_client(sync_client=True) as client:
        made = client.read_deployment_by_name("needledrop-retrain/retrain")
        assert [one.schedule.cron for one in made.schedules] == ["*/5 * * * *"]  # type: ignore[union-attr]
        assert made.parameters["jitter_s"] == 0


def test_every_parameter_is_described_on_the_page() -> None:
    from prefect.utilities.callables import parameter_schema

    for entry in entries():
        for name, field in parameter_schema(entry.flow()).properties.items():
            assert field.get("description", "").endswith((".", "}")), f"{entry.name}: {name}"


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 3 31 2 *", "retrain: the schedule '0 3 31 2 \\*' never fires"),
        ("0 3 * *", "retrain: '0 3 \\* \\*' is no cron schedule"),
        ("61 * * * *", "is no cron schedule"),
        ("weekly", "is no cron schedule"),
        ("", "is no cron schedule"),
    ],
)
def test_a_schedule_that_never_fires_is_refused(cron: str, words: str) -> None:
    with pytest.raises(Refusal, match=words) as refused:
        entries(retrain_cron=cron)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pull": []}, "pull"),  # Prefect would put the deployer's folder there
        ({"shedules": []}, "shedules"),
        ({"concurrency_limit": {"limit": 0, "collision_strategy": "ENQUEUE"}}, "concurrency_limit.limit"),
        (
            {"schedules": [{"cron": "0 0 * * *", "timezone": "Middle/Earth", "slug": "a"}]},
            "no time zone 'Middle/Earth'",
        ),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    content["deployments"][0] |= change
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(Refusal, match=words):
        read_deployments(tmp_path)


def test_a_parameter_that_no_flow_has_is_refused(prefect_server: str) -> None:
    entry = entries()[0]
    wrong = entry.model_copy(update={"name": "other", "parameters": {"comit": "main"}})
    with pytest.raises(Refusal, match="other has no parameter comit"):
        deploy(Environment.model_validate({"prefect_api_url": prefect_server}), [wrong])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "PREFECT_API_URL is not set"),
        ("http://127.0.0.1:1/api", "does not answer \\(connection refused\\)"),
        ("http://name:secret@127.0.0.1:1/api", "name:\\*\\*\\*@"),
    ],
)
def test_a_server_that_is_not_there_is_named(url: str | None, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        deploy(Environment.model_validate({"prefect_api_url": url}), entries())


def test_the_command_says_what_it_made_and_when_it_runs_next(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.cli import main

    monkeypatch.setattr("flows.cli.signal.signal", lambda *_: None)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    assert main(["deploy", "--jitter", "0"]) == 0
    said = capsys.readouterr().out
    assert "needledrop-retrain/retrain" in said and "next run 20" in said
    assert main(["deploy", "--retrain-cron", "0 0 30 2 *"]) == 2
    assert "never fires" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cron", "now", "then"),
    [
        ("0 6 * * *", "2027-03-27T12:00+01:00", "2027-03-28T06:00+02:00"),  # clocks go forward in between
        ("30 2 * * *", "2026-10-25T12:00+01:00", "2026-10-26T02:30+01:00"),
        ("0 6 * * *", "2026-10-24T12:00+02:00", "2026-10-25T06:00+01:00"),  # and back
        ("*/15 * * * *", "2026-10-25T02:05+01:00", "2026-10-25T02:15+01:00"),  # the second time it is two o'clock
        ("0 3 * * 1", "2026-11-28T12:00+01:00", "2026-11-30T03:00+01:00"),
    ],
)
def test_a_schedule_keeps_to_the_clock_on_the_wall(cron: str, now: str, then: str) -> None:
    schedule = Schedule(cron=cron, timezone="Europe/Berlin", slug="one")
    found = next_time(schedule, now=datetime.fromisoformat(now))
    assert found.isoformat(timespec="minutes") == then
