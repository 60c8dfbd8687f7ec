"""A schedule that never starts anything: each reason is said, with what to do about it."""

from pathlib import Path

import pytest

from flows.deploy import idle
from flows.deploy.apply import deploy
from flows.deploy.entries import read_deployments
from flows.environment import Environment
from flows.errors import Refusal
from flows.ledger.attempts import worker_name

ROOT = Path(__file__).parents[2]


def test_switched_off_paused_and_without_a_worker(prefect_server: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Late

    environment = Environment.model_validate({"prefect_api_url": prefect_server})
    deploy(environment, read_deployments(ROOT))
    with get_client(sync_client=True) as client:
        for worker in client.read_workers_for_work_pool("needledrop-cpu"):  # of another test on the same server
            client._client.delete(f"/work_pools/needledrop-cpu/workers/{worker.name}").raise_for_status()
        retrain = client.read_deployment_by_name("needledrop-retrain/retrain")
        (schedule,) = retrain.schedules
        client.update_deployment_schedule(retrain.id, schedule.id, active=True)
        nobody = "no worker polls needledrop-cpu, so nothing runs; start `needledrop worker --pool needledrop-cpu` on a machine that shall"
        assert nobody in idle.reasons(environment)
        assert any(
            words.startswith("the schedule of watch is off; switch it on") for words in idle.reasons(environment)
        )
        assert not any("retrain" in words for words in idle.reasons(environment))

        client.update_deployment_schedule(retrain.id, schedule.id, active=False)
        assert any(words.startswith("the schedule of retrain is off") for words in idle.reasons(environment))
        client.update_deployment_schedule(retrain.id, schedule.id, active=True)

        run = client.create_flow_run_from_deployment(retrain.id)
        client.set_flow_run_state(run.id, Late(), force=True)
        assert any("no worker polls needledrop-cpu, so 1 late run wait" in words for words in idle.reasons(environment))
        client.delete_flow_run(run.id)

        client.send_worker_heartbeat("needledrop-cpu", worker_name(None), heartbeat_interval_seconds=30)
        assert not any("needledrop-cpu" in words for words in idle.reasons(environment))
        client.pause_deployment(retrain.id)
        assert any(
            words.startswith("retrain is paused, so no schedule starts it") for words in idle.reasons(environment)
        )
        client.resume_deployment(retrain.id)


def test_without_a_server_it_is_said_which(prefect_server: str) -> None:
    with pytest.raises(Refusal, match="does not answer"):
        idle.reasons(Environment.model_validate({"prefect_api_url": "http://127.0.0.1:1/api"}))
