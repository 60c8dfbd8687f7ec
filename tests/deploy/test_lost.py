"""Runs that died before the ledger knew them: found where that can be known, left alone where it cannot."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from flows import lost
from flows.deploy import deploy
from flows.deployed.entries import read_deployments
from flows.environment import Environment
from flows.reaper import reap
from flows.workspace import Workspace

ROOT = Path(__file__).parents[2]
POOL = "needledrop-cpu"


def test_a_run_without_a_process_is_dead_where_all_workers_are_here(prefect_server: str, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Pending, Running

    environment = Environment.model_validate({"prefect_api_url": prefect_server})
    deploy(environment, read_deployments(ROOT))
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        release = client.read_deployment_by_name("needledrop-promote/promote")

        def begun(ago_s: float, state: type | object = Pending) -> UUID:
            parameters = {"version": 1, "by": "Ada"}
            run = client.create_flow_run_from_deployment(release.id, parameters=parameters)
            made = state(timestamp=now - timedelta(seconds=ago_s))  # type: ignore[operator]
            client.set_flow_run_state(run.id, made, force=True)
            return run.id

        client.send_worker_heartbeat(POOL, lost.worker_name(None), heartbeat_interval_seconds=30)
        fresh, old, running, known = begun(5), begun(90), begun(90, Running), begun(90)
        assert set(lost.find(client, {str(known)})) == {old, running}
        assert set(lost.find(client, {str(known)}, POOL)) == {fresh, old, running}, (
            "no worker could be about to start it"
        )

        alive = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(300)", "prefect.engine"],
            env=os.environ | {"PREFECT__FLOW_RUN_ID": str(old)},
        )
        try:
            assert set(lost.find(client, {str(known)}, POOL)) == {fresh, running}
        finally:
            alive.kill()
            alive.wait()

        client.send_worker_heartbeat(POOL, "worker@elsewhere", heartbeat_interval_seconds=30)
        silent = begun(700)
        assert lost.find(client, set(), POOL) == [silent], "the others may be at work elsewhere"
        assert reap(environment, Workspace(tmp_path), POOL) == [str(silent)]
        state = client.read_flow_run(silent).state
        assert state is not None and state.type.value == "CRASHED"
        for run in (fresh, old, running, known, silent):
            client.delete_flow_run(run)


def test_the_second_worker_of_a_machine_is_not_alone(tmp_path: Path) -> None:
    look = "import sys; from pathlib import Path; from flows.lost import alone; print(alone(Path(sys.argv[1]), 'needledrop-cpu'), flush=True); "

    def worker(then: str) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-c", look + then, str(tmp_path)]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)

    # The first one becomes another program, as a worker does.
    first = worker("import os; os.execvp('sleep', ['sleep', '300'])")
    assert first.stdout is not None and first.stdout.readline().strip() == "True"
    assert worker("").communicate()[0].strip() == "False"
    first.kill()
    first.wait()
    assert worker("").communicate()[0].strip() == "True"
