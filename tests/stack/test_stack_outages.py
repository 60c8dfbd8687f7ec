"""Servers that hang or die in the middle of an operation: it waits and ends right, or fails cleanly and is run again.

`NEEDLEDROP_OUTAGE_S` says for how long each is away.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.environment import PATIENT, Environment
from flows.ledger.database import transaction
from flows.ledger.errors import LedgerAway, LedgerDenied
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from infra.state import State
from tests.stack.commands import away, ended, needledrop, said, start, until
from tests.stack.fault_proxy import FaultProxy
from tests.stack.shared_project import checksums, clone, make_project

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]

AWAY_S = float(os.environ.get("NEEDLEDROP_OUTAGE_S", "4"))
S3 = ("s3", "s3-object", "s3-container")

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


@pytest.mark.parametrize(("name", "seed"), [(name, at) for at, name in enumerate(S3)])
def test_s3_hangs_while_files_are_pushed(
    name: str, seed: int, stack: State, way: FaultProxy, environment: dict[str, str], tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project", seed)
    pushing = start(needledrop("push"), project, environment)
    until(lambda: way.requests >= 12)
    with away(stack, "hangs", name):
        time.sleep(AWAY_S)
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
    with away(stack, "dies", *S3):
        time.sleep(AWAY_S)
    words, _ = pulling.communicate(timeout=400)
    if pulling.returncode:  # it gave up before the servers were back: it says what to do, and that works
        assert "run it again" in words or "does not answer" in words
        ended(start(needledrop("pull"), other, environment))
    assert checksums(other) == checksums(project)


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_mlflow_is_away_while_a_run_is_logged(
    how: str, stack: State, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    logging = start(["-c", LOG_STEPS], tmp_path, stack_environment | PATIENT)
    run = said(logging, "run ").removeprefix("run ")
    said(logging, "10")
    with away(stack, how, "mlflow"):
        time.sleep(AWAY_S)
    words, _ = logging.communicate(timeout=400)
    logged = sorted({row["step"] for row in history(stack, run)})
    if logging.returncode:  # it died in the middle of an answer, which MLflow's client does not ask for again
        assert how == "dies" and "IncompleteRead" in words, words
        accepted = [int(line) for line in words.splitlines() if line.isdecimal()]
        assert set(accepted) <= set(logged), "what was accepted is there"
        return
    # A request whose answer was lost is sent again: a step may stand twice, none may be missing.
    assert logged == list(range(60))


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_prefect_is_away_while_a_flow_runs(
    how: str, stack: State, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    running = start(["-c", FLOW], tmp_path, stack_environment | PATIENT)
    said(running, "5")
    with away(stack, how, "prefect"):
        time.sleep(AWAY_S)
    ended(running)


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_postgres_is_away_while_the_ledger_is_written(how: str, stack: State, tmp_path: Path) -> None:
    environment = Environment(ledger_url=stack.exports()["NEEDLEDROP_LEDGER_URL"])
    workspace, accepted, stop = Workspace(tmp_path), [], threading.Event()
    with transaction(Platform(workspace, environment)) as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS outage (number integer)")
        connection.exec_driver_sql("DELETE FROM outage")

    def write() -> None:
        number = 0
        while not stop.is_set():
            try:
                with transaction(Platform(workspace, environment)) as connection:
                    connection.exec_driver_sql("INSERT INTO outage VALUES (%s)", (number,))
                accepted.append(number)
            except LedgerAway:
                time.sleep(0.2)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(lambda: len(accepted) > 20)
        with away(stack, how, "postgres"):
            time.sleep(AWAY_S)
        seen = len(accepted)
        until(lambda: len(accepted) > seen + 20)
    finally:
        stop.set()
        writer.join(60)
    with transaction(Platform(workspace, environment)) as connection:
        rows = [row[0] for row in connection.exec_driver_sql("SELECT number FROM outage")]
    assert set(accepted) <= set(rows), "what was accepted is there"
    assert len(rows) == len(set(rows)), "and nothing twice"
    # A commit whose answer was lost may stand as well; there was one outage, so one at most.
    assert len(set(rows) - set(accepted)) <= 1


def test_a_patient_run_waits_for_the_ledger(stack: State, tmp_path: Path) -> None:
    url, workspace = stack.exports()["NEEDLEDROP_LEDGER_URL"], Workspace(tmp_path)
    hasty, patient = Environment(ledger_url=url), Environment(ledger_url=url, patience_s=AWAY_S + 60)
    with transaction(Platform(workspace, patient)):
        pass
    back = threading.Event()

    def wait() -> None:
        with transaction(Platform(workspace, patient)) as connection:
            connection.exec_driver_sql("SELECT 1")
        assert back.is_set(), "it was away"
        done.append(True)

    done: list[bool] = []
    waiting = threading.Thread(target=wait)
    with away(stack, "dies", "postgres"):
        with pytest.raises(LedgerAway), transaction(Platform(workspace, hasty)):
            pass
        waiting.start()
        time.sleep(AWAY_S)
        back.set()
    waiting.join(90)
    assert done == [True]
    wrong = Environment(ledger_url=url.replace(stack.secrets["ledger_database"], "wrong"), patience_s=600)
    with pytest.raises(LedgerDenied, match="authentication failed"), transaction(Platform(workspace, wrong)):
        pass


def history(stack: State, run: str) -> list[dict[str, Any]]:
    from infra.health import ask
    from infra.state import USER

    url = f"{stack.mlflow_url}/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss"
    rows: list[dict[str, Any]] = ask(url, USER, stack.secrets["mlflow"])["metrics"]
    return [row | {"step": int(row.get("step", 0))} for row in rows]
