"""Kill -9 at random moments: of the run, of the worker too, of everything. Nothing lost, nothing twice, nothing left.

`NEEDLEDROP_KILLS` says how many (default 32) and `NEEDLEDROP_KILLS_SEED` which moments.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
import yaml
from sqlalchemy import create_engine, text

from .deployed_line import Line, below, kill, make_source

pytestmark = [pytest.mark.stack, pytest.mark.timeout(5400)]

KILLS = int(os.environ.get("NEEDLEDROP_KILLS", "32"))
SEED = int(os.environ.get("NEEDLEDROP_KILLS_SEED", "7"))
RETRAIN = "needledrop-retrain/retrain"
WHOM = ("the run", "the run and the worker", "everything")


@dataclass
class Kill:
    """One kill: where the run was when it happened."""

    moment: str
    whom: str
    where: str
    orphans: int
    """Processes that the kill itself left behind; the reaper must end them."""
    seconds: float


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and database of an MLflow server that keeps the artifacts too."""
    root = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{root}/mlflow.db",
        "--artifacts-destination",
        str(root / "artifacts"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (root / "log").open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + 180
    while not answers(f"http://127.0.0.1:{port}/health"):
        assert server.poll() is None and time.monotonic() < deadline, (root / "log").read_text()
        time.sleep(0.5)
    yield f"http://127.0.0.1:{port}", root / "mlflow.db"
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def line(
    prefect_server: str, mlflow_server: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Line]:
    root = tmp_path_factory.mktemp("kills")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NEEDLEDROP_", "MLFLOW_", "PREFECT_"))}
    servers = {
        "PREFECT_API_URL": prefect_server,
        "PREFECT_HOME": str(root / "prefect"),
        "MLFLOW_TRACKING_URI": mlflow_server[0],
        "NEEDLEDROP_LEDGER_URL": f"sqlite:///{root}/ledger.db",
    }
    line = Line(make_source(root / "source"), root / "home", kept | servers)
    line.command("deploy", "--jitter", "0")
    yield line
    line.stop()
    kill(list(below(root)))


@pytest.fixture(scope="module")
def undisturbed(line: Line, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What plain `dvc repro` makes of the same params, with a cache of its own."""

    def lock(changes: dict[str, Any]) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("undisturbed") / "source"
        subprocess.run(["git", "clone", "-q", str(line.source), str(folder)], check=True)  # the very same commit
        tree = yaml.safe_load((folder / "params.yaml").read_text())
        for dotted, value in changes.items():
            section, key = dotted.split(".")
            tree[section][key] = value
        (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        environment = line.environment | {"PYTHONPATH": str(folder)}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=folder, env=environment, check=True)
        content: dict[str, Any] = yaml.safe_load((folder / "dvc.lock").read_text())
        return content

    return lock


def stages(line: Line) -> list[str]:
    """The stages in the order of dvc.yaml, items of a `foreach` each for itself."""
    tree = yaml.safe_load((line.source / "dvc.yaml").read_text())["stages"]
    return [
        name
        for stage, body in tree.items()
        for name in ([f"{stage}@{key}" for key in body["foreach"]] if "foreach" in body else [stage])
    ]


def where_is(line: Line, known: set[str], run: UUID) -> str:
    """Where a run is: a stage, `registration`, `gate`, or before all that."""
    new = [record for record in line.inner_runs() if record["id"] not in known]
    if not new:
        return "before"
    record = new[0]
    logs = sorted((line.slot / ".needledrop" / "runs" / record["id"]).glob("*.log"), key=lambda p: p.stat().st_mtime_ns)
    done = {stage["name"].replace("@", "_").replace(":", "_") for stage in record["stages"]}
    current = [path.stem for path in logs if path.stem.replace("@", "_") not in done]
    if current:
        return current[-1]
    if not record["stages"] or record["stages"][-1]["name"] != stages(line)[-1]:
        return "between"
    receipt = line.slot / ".needledrop" / "registered.json"
    begun = datetime.fromisoformat(record["started"]).timestamp()
    return "gate" if receipt.exists() and receipt.stat().st_mtime > begun else "registration"


def kill_once(line: Line, moment: str, whom: str, later_s: float, parameters: dict[str, Any]) -> Kill | None:
    """Start a run, wait for a moment, then a while, and kill; None where the run ended before."""
    began = time.monotonic()
    worker = line.worker()
    known = {record["id"] for record in line.inner_runs()}
    run = line.submit(RETRAIN, **parameters)
    order = [*stages(line), "registration", "gate"]
    passed = set(order[order.index(moment) :]) if moment in order else set(order) | {"between", "before"}
    while (where := where_is(line, known, run)) not in passed:
        line.worker()
        state = line.state(run)
        if state[0] in ("COMPLETED", "FAILED"):
            assert state[0] == "COMPLETED", f"{state}\n{line.said()}"
            return None
        assert state[0] != "CRASHED", f"{state}\n{line.said()}"
        time.sleep(0.05)
    time.sleep(later_s)
    where = where_is(line, known, run)
    flow_runs = [process for process in worker.children() if "prefect.engine" in " ".join(process.cmdline())]
    if not flow_runs:
        return None
    below_run = [process for one in flow_runs for process in one.children(recursive=True)]
    others = [process for process in below(line.home) if process not in flow_runs]
    victims = flow_runs + {"the run": [], "the run and the worker": [worker], "everything": [worker, *others]}[whom]
    kill(victims)
    left = [process for process in below_run if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    line.worker()
    return Kill(moment, whom, where, len(left), time.monotonic() - began)


def test_killed_at_random_moments_it_loses_doubles_and_leaves_nothing(
    line: Line, mlflow_server: tuple[str, Path], undisturbed: Any
) -> None:
    draw = random.Random(SEED)
    moments = [*stages(line), "registration", "before", "registration", "gate"]
    kills: list[Kill] = []
    round_number = 0
    while len(kills) < KILLS:
        round_number += 1
        parameters: dict[str, Any] = {"overrides": {"corpus.seed": 100 + round_number}, "reason": "kill test"}
        for moment in moments:
            if len(kills) < KILLS:
                longest = 1.5 if moment in ("registration", "gate") else 0.8
                done = kill_once(line, moment, draw.choice(WHOM), draw.uniform(0, longest), parameters)
                if done is not None:
                    kills.append(done)
                    print(f"{len(kills):>3}  {done.moment:<22} {done.where:<22} {done.whom:<24} {done.orphans:>2} left  {done.seconds:5.1f} s", flush=True)  # fmt: skip
        last = line.wait(line.submit(RETRAIN, force=True, **parameters))
        assert last[0] == "COMPLETED", f"{last}\n{line.said()}"
        lock = yaml.safe_load((line.slot / "dvc.lock").read_text())
        assert differences(lock, undisturbed(parameters["overrides"])) == [], "lost or changed"
    line.stop()
    check_nothing_is_doubled_or_left(line, mlflow_server[1], kills, round_number)
    show(kills, round_number)


def differences(lock: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Every entry of a stage in which two locks differ."""
    return [
        f"{stage}: {part}: {entry}"
        for stage in sorted(lock["stages"].keys() | other["stages"].keys())
        for part in ("cmd", "deps", "params", "outs")
        for entry in entries(lock, stage, part) ^ entries(other, stage, part)
    ]


def entries(lock: dict[str, Any], stage: str, part: str) -> set[str]:
    content = lock["stages"].get(stage, {}).get(part, ())
    return {str(entry) for entry in (content if isinstance(content, list) else [content])}


def check_nothing_is_doubled_or_left(line: Line, database: Path, kills: list[Kill], rounds: int) -> None:
    with create_engine(f"sqlite:///{database}").connect() as mlflow:
        versions = mlflow.execute(text("select version from model_versions where name = 'needledrop'")).scalars()
        assert sorted(versions) == list(range(1, rounds + 1)), "one version for each content"
        half = text("select count(*) from runs where status = 'RUNNING' and lifecycle_stage = 'active'")
        assert mlflow.execute(half).scalar_one() == 0
    with create_engine(f"sqlite:///{line.home.parent}/ledger.db").connect() as ledger:
        assert ledger.execute(text("select count(distinct digest), count(*) from releases")).one() == (rounds, rounds)
        assert ledger.execute(text("select count(*) from leases")).scalar_one() == 0
        states = dict(ledger.execute(text("select state, count(*) from attempts group by state")).all())  # type: ignore[arg-type]
    assert set(states) <= {"finished", "crashed", "skipped"}, states
    # A run that was killed before it could enter the ledger is known to Prefect alone.
    assert len(kills) - 2 * rounds <= states["crashed"] <= len(kills), states
    assert [process.cmdline() for process in below(line.home)] == [], "no orphans"
    left = [
        path for pattern in ("*.part", "*.partial", "*-checkpoints") for path in (line.slot / "data").rglob(pattern)
    ]
    assert left == []
    assert not_ended(line) == []


def not_ended(line: Line) -> list[str]:
    """Runs that Prefect believes to be going on."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(limit=200)
    going = [run for run in runs if run.state is not None and not run.state.is_final() and not run.state.is_scheduled()]
    return [f"{run.name}: {run.state}" for run in going]


def show(kills: list[Kill], rounds: int) -> None:
    print(f"\n{len(kills)} kills over {rounds} pipelines, seed {SEED}: 0 lost, 0 doubled, 0 orphans")
    print(f"{'killed in':<24}{'kills':>6}")
    for where in sorted({one.where for one in kills}):
        print(f"{where:<24}{sum(one.where == where for one in kills):>6}")
    for whom in WHOM:
        of = [one for one in kills if one.whom == whom]
        print(f"killed: {whom:<24}{len(of):>3} times, {sum(one.orphans for one in of)} processes left and reaped")
