"""Servers that hang or die in the middle of an operation: it waits and ends right, or fails cleanly and is run again."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.environment import Environment
from flows.ledger import LedgerUnreachable, transaction
from flows.workspace import Workspace
from infra.stack import up
from infra.state import State
from tests.stack.commands import ended, kill, needledrop, part, said, start, suspended, until
from tests.stack.conftest import SWIFT
from tests.stack.fault_proxy import FaultProxy
from tests.stack.shared_project import checksums, clone, make_project

pytestmark = pytest.mark.stack

HANG_S = 6.0

# Writes one metric per step and tells each that was accepted.
LOG_STEPS = """
import mlflow
mlflow.set_experiment("outage")
with mlflow.start_run() as run:
    print("run", run.info.run_id, flush=True)
    for step in range(60):
        mlflow.log_metric("loss", 1.0 / (1 + step), step=step)
        print(step, flush=True)
"""

# A flow of many short tasks, each of which Prefect is told of.
FLOW = """
import time
from prefect import flow, task

@task
def one(number):
    time.sleep(0.2)
    return number

@flow
def many():
    done = []
    for number in range(25):
        done.append(one(number))
        print(number, flush=True)
    return done

assert many() == list(range(25))
"""


@pytest.fixture
def way(stack: State) -> Any:
    """A way to S3 that counts requests and lets all of them pass."""
    with FaultProxy(stack.s3_endpoint, 0.0, seed=0) as proxy:
        yield proxy


@pytest.fixture
def environment(stack_environment: dict[str, str], way: FaultProxy, tmp_path: Path) -> dict[str, str]:
    remote = f"s3://needledrop-dvc/{tmp_path.name}"
    return stack_environment | {"AWS_ENDPOINT_URL": way.url, "NEEDLEDROP_DVC_REMOTE": remote}


@pytest.mark.parametrize("name", ["s3", "s3-object", "s3-container"])
def test_s3_hangs_while_files_are_pushed(
    name: str, stack: State, way: FaultProxy, environment: dict[str, str], tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project", seed=hash(name) % 1000)
    pushing = start(needledrop("push"), project, environment)
    until(lambda: way.requests >= 12)
    with suspended(part(stack, name)):
        time.sleep(HANG_S)
    ended(pushing)
    other = clone(project, tmp_path / "clone")
    ended(start(needledrop("pull"), other, environment))
    assert checksums(other) == checksums(project)


def test_s3_dies_and_comes_back_while_files_are_pulled(
    stack: State, way: FaultProxy, environment: dict[str, str], tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project", seed=77)
    ended(start(needledrop("push"), project, environment))
    other = clone(project, tmp_path / "clone")
    before = way.requests
    pulling = start(needledrop("pull"), other, environment)
    until(lambda: way.requests >= before + 12)
    for name in ("s3", "s3-object", "s3-container"):
        kill(part(stack, name))
    up(stack.folder, swift_venv=SWIFT)
    words, _ = pulling.communicate(timeout=400)
    if pulling.returncode:  # it gave up before the servers were back: it says what to do, and that works
        assert "run it again" in words or "does not answer" in words
        ended(start(needledrop("pull"), other, environment))
    assert checksums(other) == checksums(project)


def test_mlflow_hangs_while_a_run_is_logged(stack: State, stack_environment: dict[str, str], tmp_path: Path) -> None:
    logging = start(["-c", LOG_STEPS], tmp_path, stack_environment)
    run = said(logging, "run ").removeprefix("run ")
    said(logging, "10")
    with suspended(part(stack, "mlflow")):
        time.sleep(HANG_S)
    ended(logging)
    assert [row["step"] for row in history(stack, run)] == list(range(60))


def test_mlflow_dies_and_comes_back_while_a_run_is_logged(
    stack: State, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    patient = stack_environment | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "9", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}
    logging = start(["-c", LOG_STEPS], tmp_path, patient)
    run = said(logging, "run ").removeprefix("run ")
    said(logging, "10")
    kill(part(stack, "mlflow"))
    up(stack.folder, swift_venv=SWIFT)
    ended(logging)
    # A request whose answer was lost is sent again: a step may stand twice, none may be missing.
    assert sorted({row["step"] for row in history(stack, run)}) == list(range(60))


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_prefect_is_away_while_a_flow_runs(
    how: str, stack: State, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    running = start(["-c", FLOW], tmp_path, stack_environment | {"PREFECT_CLIENT_MAX_RETRIES": "10"})
    said(running, "5")
    if how == "hangs":
        with suspended(part(stack, "prefect")):
            time.sleep(HANG_S)
    else:
        kill(part(stack, "prefect"))
        up(stack.folder, swift_venv=SWIFT)
    ended(running)


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_postgres_is_away_while_the_ledger_is_written(how: str, stack: State, tmp_path: Path) -> None:
    environment = Environment(ledger_url=stack.exports()["NEEDLEDROP_LEDGER_URL"])
    workspace, accepted, stop = Workspace(tmp_path), [], threading.Event()
    with transaction(environment, workspace) as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS outage (number integer)")
        connection.exec_driver_sql("DELETE FROM outage")

    def write() -> None:
        number = 0
        while not stop.is_set():
            try:
                with transaction(environment, workspace) as connection:
                    connection.exec_driver_sql("INSERT INTO outage VALUES (%s)", (number,))
                accepted.append(number)
            except LedgerUnreachable:
                time.sleep(0.2)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(lambda: len(accepted) > 20)
        if how == "hangs":
            with suspended(part(stack, "postgres")):
                time.sleep(HANG_S)
        else:
            kill(part(stack, "postgres"))
            up(stack.folder, swift_venv=SWIFT)
        seen = len(accepted)
        until(lambda: len(accepted) > seen + 20)
    finally:
        stop.set()
        writer.join(60)
    with transaction(environment, workspace) as connection:
        rows = [row[0] for row in connection.exec_driver_sql("SELECT number FROM outage")]
    assert set(accepted) <= set(rows), "what was accepted is there"
    assert len(rows) == len(set(rows)), "and nothing twice"
    # A commit whose answer was lost may stand as well; there was one outage, so one at most.
    assert len(set(rows) - set(accepted)) <= 1


def history(stack: State, run: str) -> list[dict[str, Any]]:
    from infra.health import ask
    from infra.state import USER

    url = f"{stack.mlflow_url}/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss"
    rows: list[dict[str, Any]] = ask(url, USER, stack.secrets["mlflow"])["metrics"]
    return [row | {"step": int(row.get("step", 0))} for row in rows]
