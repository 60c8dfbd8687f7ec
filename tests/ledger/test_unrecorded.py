"""Runs that died before the ledger knew them: found where that can be known, left alone where it cannot."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State
from sqlalchemy import select

from flows.deploy.apply import deploy
from flows.deploy.entries import read_deployments
from flows.environment import Environment
from flows.ledger import attempts
from flows.ledger.attempts import reap
from flows.ledger.database import reading
from flows.ledger.notices import NOTICES
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]
POOL = "needledrop-cpu"


def test_a_run_without_a_process_is_dead_where_all_workers_are_here(
    prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Pending, Running

    environment = Environment.model_validate({"prefect_api_url": prefect_server})
    deploy(environment, read_deployments(ROOT))
    with get_client(sync_client=True) as client:
        release = client.read_deployment_by_name("needledrop-promote/promote")

        def begun(state: State[Any]) -> UUID:
            run = client.create_flow_run_from_deployment(release.id, parameters={"version": 1, "by": "Ada"})
            client.set_flow_run_state(run.id, state, force=True)
            return run.id

        client.send_worker_heartbeat(POOL, attempts.worker_name(None), heartbeat_interval_seconds=30)
        starting, running, known = begun(Pending()), begun(Running()), begun(Running())
        living = {str(known)}
        assert attempts.unrecorded(client, living) == [], "a worker may be about to start them"
        assert set(attempts.unrecorded(client, living, POOL)) == {starting, running}, "there is no worker that could"
        monkeypatch.setattr(attempts, "_STARTING", timedelta(0))
        assert set(attempts.unrecorded(client, living)) == {starting, running}, "it would have started them by now"

        alive = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(300)", "prefect.engine"],
            env=os.environ | {"PREFECT__FLOW_RUN_ID": str(starting)},
        )
        try:
            assert attempts.unrecorded(client, living, POOL) == [running]
        finally:
            alive.kill()
            alive.wait()

        client.send_worker_heartbeat(POOL, "worker@elsewhere", heartbeat_interval_seconds=30)
        assert attempts.unrecorded(client, living, POOL) == [], "the other one may be at work on them"
        monkeypatch.setattr(attempts, "_SILENT", timedelta(0))
        assert set(reap(Platform(Workspace(tmp_path), environment))) == {str(starting), str(running), str(known)}
        states = [client.read_flow_run(run).state for run in (starting, running, known)]
        assert [state.type.value for state in states if state is not None] == ["CRASHED"] * 3
        with reading(Platform(Workspace(tmp_path), environment)) as connection:
            (text,) = connection.execute(select(NOTICES.c.text)).scalars()
        assert text.startswith("needledrop: promote crashed\nIts process died without a word"), "told once"
        for run in (starting, running, known):
            client.delete_flow_run(run)


def test_the_second_worker_of_a_machine_is_not_alone(tmp_path: Path) -> None:
    look = "import sys; from pathlib import Path; from flows.ledger.attempts import alone; print(alone(Path(sys.argv[1]), 'needledrop-cpu'), flush=True); "

    def worker(then: str) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-c", look + then, str(tmp_path)]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)

    # The first one becomes another program, as a worker does.
    first = worker("import os; os.execvp('sleep', ['sleep', '300'])")
    assert first.stdout is not None and first.stdout.readline().strip() == "True"
    assert worker("").communicate()[0].strip() == "False"
    first.kill()
    first.communicate()
    assert worker("").communicate()[0].strip() == "True"
