"""Dead runs: found, freed, cleared up, and told to Prefect, by whoever starts next."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from sqlalchemy import select, update

from flows.environment import Environment
from flows.ledger.attempts import ATTEMPTS, attempt, last_finished, last_here, reap
from flows.ledger.database import transaction
from flows.ledger.lease import LEASES, Leased, LeaseLost, leases, place
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]

# A deployed run: in the ledger, with a lease of its own and the pipeline's, and a stage in a session of its own.
WORKER = """
import sys, time
from pathlib import Path
from flows.workspace.begin import begin
from flows.ledger.attempts import attempt
from flows.environment import Environment
from flows.ledger.lease import lease
from flows.workspace.processes import Processes
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
workspace, run = Workspace(Path(sys.argv[1])), sys.argv[2]
with attempt(Platform(workspace, Environment()), "needledrop-retrain", run), lease(Platform(workspace, Environment()), "pipeline", 3600):
    with begin(workspace) as inner:
        Processes(inner.id).run(["sh", "-c", "echo $$; exec sleep 300"], workspace.root, lambda line: print(line, flush=True))
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return Workspace(tmp_path)


@pytest.fixture
def killed(workspace: Workspace) -> Iterator[Any]:
    """Start a run under the given id, kill it -9 in mid-stage, and return the pid of its stage."""
    stages = []

    def kill(run: str) -> int:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("NEEDLEDROP_", "PREFECT_"))}
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(workspace.root), run],
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        stages.append(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return stages[-1]

    yield kill
    for pid in stages:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def state(workspace: Workspace, run: str) -> str:
    with transaction(Platform(workspace, Environment())) as connection:
        return str(connection.execute(select(ATTEMPTS.c.state).where(ATTEMPTS.c.run == run)).scalar_one())


def test_a_killed_run_is_crashed_its_leases_free_and_its_stage_gone(workspace: Workspace, killed: Any) -> None:
    stage = killed("one")
    assert psutil.pid_exists(stage), "it is in a session of its own"
    assert reap(Platform(workspace, Environment())) == ["one"]
    assert not psutil.pid_exists(stage)
    assert state(workspace, "one") == "crashed"
    with transaction(Platform(workspace, Environment())) as connection:
        assert leases(connection) == []
    assert list(workspace.state.glob("ledger-leases/*")) == [], "no file is left"
    assert reap(Platform(workspace, Environment())) == []


def test_a_living_run_is_left_alone(workspace: Workspace) -> None:
    with attempt(Platform(workspace, Environment()), "needledrop-retrain", "one"):
        assert reap(Platform(workspace, Environment())) == []
        with pytest.raises(Leased), attempt(Platform(workspace, Environment()), "needledrop-retrain", "one"):
            pass
    assert state(workspace, "one") == "finished"


def test_one_elsewhere_is_dead_when_its_lease_has_run_out(workspace: Workspace) -> None:
    with pytest.raises(LeaseLost), attempt(Platform(workspace, Environment()), "needledrop-retrain", "one"):
        with transaction(Platform(workspace, Environment())) as connection:
            connection.execute(update(LEASES).values(place="elsewhere/boot/", pid=1))
            connection.execute(update(ATTEMPTS).values(place="elsewhere/boot/", pid=1))
        assert reap(Platform(workspace, Environment())) == []
        with transaction(Platform(workspace, Environment())) as connection:
            connection.execute(update(LEASES).values(expires="2020-01-01T00:00:00.000+00:00"))
        assert reap(Platform(workspace, Environment())) == ["one"]
        raise LeaseLost("as its own heartbeat finds out")
    assert state(workspace, "one") == "crashed", "what was taken for dead does not come back as failed"


def test_how_runs_ended_and_which_was_last(workspace: Workspace) -> None:
    other = Workspace(workspace.root / "other")
    environment = Environment.model_validate({"ledger_url": f"sqlite:///{workspace.root}/ledger.db"})
    with attempt(Platform(workspace, environment), "needledrop-retrain", "one") as this:
        this.inputs, this.result = "abc", {"version": 3}
    with attempt(Platform(other, environment), "needledrop-retrain", "two") as this:
        this.state = "skipped"
    with pytest.raises(ValueError, match="no"), attempt(Platform(other, environment), "needledrop-retrain", "three"):
        raise ValueError("no")
    with transaction(Platform(workspace, environment)) as connection:
        last = last_finished(connection, "needledrop-retrain")
        assert last is not None and (last.run, last.inputs, json.loads(last.result)) == ("one", "abc", {"version": 3})
        assert last.place == place()
        here = last_here(connection, other, "four", "needledrop-retrain")
        assert here is not None and (here.run, here.state) == ("three", "failed")
        assert last_here(connection, other, "four", "needledrop-monitor") is None


def test_prefect_is_told_of_the_run_and_of_those_inside_it(
    workspace: Workspace, prefect_server: str, killed: Any
) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
    from prefect.runtime import flow_run
    from prefect.states import Running

    @flow(name="innermost")
    def innermost() -> str:
        return str(flow_run.id)

    @flow(name="inner")
    def inner() -> list[str]:
        return [str(flow_run.id), innermost()]

    @flow(name="outer")
    def outer() -> list[str]:
        return [str(flow_run.id), *inner()]

    ids = [UUID(run) for run in outer()]
    with get_client(sync_client=True) as client:
        inside = FlowRunFilterParentFlowRunId(any_=[ids[0]])
        assert [
            run.id for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=inside))
        ] == ids[1:2]
        for one in ids:
            client.set_flow_run_state(one, Running(), force=True)
        killed(str(ids[0]))
        assert reap(Platform(workspace, Environment())) == [str(ids[0])], "without Prefect it is told later"
        reap(Platform(workspace, Environment.model_validate({"prefect_api_url": prefect_server})))
        states = [client.read_flow_run(one).state for one in ids]
    assert [one.type.value for one in states if one is not None] == ["CRASHED"] * 3
