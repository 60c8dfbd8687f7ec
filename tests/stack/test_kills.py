"""Kill -9 at random moments: of the run, of the worker too, of everything. Nothing lost, nothing twice, nothing left.

`NEEDLEDROP_KILLS` says how many, `NEEDLEDROP_KILLS_SEED` which moments. Of each pipeline run after run is killed, and
each goes on from where the one before was; the last may end, and must have made what plain `dvc repro` makes of the same
commit and params.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import yaml
from sqlalchemy import create_engine, text

from tests.stack.deployed_line import Line, below, git_head, kill
from tests.stack.moments import BEFORE, GATE, REGISTRATION, Look, stages

pytestmark = [pytest.mark.stack, pytest.mark.timeout(5400)]

KILLS = int(os.environ.get("NEEDLEDROP_KILLS", "3"))
SEED = int(os.environ.get("NEEDLEDROP_KILLS_SEED", "7"))
RETRAIN = "needledrop-retrain/retrain"
WHOM = ("the run", "the run and the worker", "everything")
LONGEST_S = {BEFORE: 5.0, REGISTRATION: 10.0, GATE: 4.0}  # how long after a moment began it is killed at most
STAGE_S = 4.5


@dataclass
class Kill:
    """One kill: where the run was, and what was wrong afterwards."""

    number: int
    run: UUID
    moment: str
    where: str
    seconds: float
    """Since the moment began."""
    whom: str
    left: list[psutil.Process]
    """Processes of the run that the kill itself spared: the next run's reaper must end them."""
    found: list[str] = field(default_factory=list)


def test_killed_at_random_moments_it_loses_doubles_and_leaves_nothing(
    deployed: Line, tmp_path_factory: pytest.TempPathFactory
) -> None:
    line, draw = deployed, random.Random(SEED)
    order = stages(line)
    moments = [BEFORE, *order, REGISTRATION, REGISTRATION, GATE]
    before, kills, pipelines = standing(line), list[Kill](), 0
    print(f"\n{KILLS} kills, seed {SEED}, of commit {git_head(line.source)[:12]}")
    print(f"{'':>3}  {'moment':<22} {'s into it':>9}  {'killed':<24} left  found afterwards", flush=True)
    while len(kills) < KILLS:
        drawn = sorted(draw.sample(range(len(moments)), min(KILLS - len(kills), len(moments))))
        overrides = {"corpus.seed": 100 + SEED + pipelines}
        parameters: dict[str, Any] = {"overrides": overrides, "reason": "kill test", "force": True}
        with undisturbed(line, overrides, tmp_path_factory.mktemp("undisturbed") / "source") as lock:
            fresh: list[Kill] = []
            for number in drawn:
                if done := kill_once(line, order, moments[number], draw, parameters, fresh, len(kills) + 1):
                    kills.append(done)
                    fresh.append(done)
            state = line.wait(line.submit(RETRAIN, **parameters))
            assert state[0] == "COMPLETED", f"{state}\n{line.said()}"
            look_after(line, fresh)
            made = yaml.safe_load((line.slot / "dvc.lock").read_text())
            assert differences(made, lock()) == [], "lost or changed"
        pipelines += 1
        check_versions(line, before, pipelines)
        line.stop()
        check_nothing_is_left(line, kills)
        print(f"     the next run ended well, its dvc.lock is that of an undisturbed run ({len(made['stages'])} stages)", flush=True)  # fmt: skip
    summary(kills, pipelines)
    assert [one.found for one in kills if one.found] == []
    if len(moments) <= KILLS:
        missed = {*moments} - {one.where for one in kills} - {name for name in moments if "@" in name}
        assert not missed, f"no kill came to {missed}"


def kill_once(
    line: Line,
    order: list[str],
    moment: str,
    draw: random.Random,
    parameters: dict[str, Any],
    fresh: list[Kill],
    number: int,
) -> Kill | None:
    """Start a run, wait for a moment, then a random while, and kill; None where the run ended before.

    The kills in `fresh` came before: once this run is at work, nothing may be left of them.
    """
    whom, later_s = draw.choice(WHOM), draw.uniform(0, LONGEST_S.get(moment, STAGE_S))
    worker, look = line.worker(), Look(line, order)
    run, asked = line.submit(RETRAIN, **parameters), time.monotonic()
    while not look.reached(moment):
        line.worker()
        if time.monotonic() > asked + 2:
            asked, state = time.monotonic(), line.state(run)
            if state[0] in ("COMPLETED", "FAILED", "CRASHED"):
                assert state[0] == "COMPLETED", f"{state}\n{line.said()}"
                return None
        time.sleep(0.05)
    if look.begun():
        look_after(line, fresh)
    began = time.monotonic()
    while time.monotonic() < began + later_s and moment in look.now():
        time.sleep(0.02)
    engines = line.engines()
    if not engines:
        return None
    now, seconds = look.now(), time.monotonic() - began
    of_run = [process for one in engines for process in one.children(recursive=True)]
    others = [process for process in below(line.home) if process not in engines]
    kill(engines + {"the run": [], "the run and the worker": [worker], "everything": [worker, *others]}[whom])
    left = [process for process in of_run if lives(process)]
    line.worker()
    return Kill(number, run, moment, moment if moment in now else now[0], seconds, whom, left)


def look_after(line: Line, fresh: list[Kill]) -> None:
    """Look, while the next run is at work or has ended, for what killed ones have left; print what was found."""
    for one in fresh:
        one.found = [f"process {process.pid} lives" for process in one.left if lives(process)]
        state = line.state(one.run)[0]
        one.found += [f"Prefect says {state}"] if state != "CRASHED" else []
        with create_engine(line.environment["NEEDLEDROP_LEDGER_URL"]).connect() as ledger:
            known = {"run": str(one.run)}
            attempt = ledger.execute(text("select state from attempts where run = :run"), known).scalar_one_or_none()
            held = ledger.execute(text("select count(*) from leases where run = :run"), known).scalar_one()
        # A run that was killed before it could enter the ledger is known to Prefect alone.
        known_to = "Prefect and ledger" if attempt else "Prefect"
        if attempt not in ("crashed", None) or (attempt is None and one.moment != BEFORE):
            one.found.append(f"the ledger says {attempt}")
        one.found += ["its leases are held"] if held else []
        words = "; ".join(one.found) or f"crashed ({known_to}), leases free, no process"
        print(f"{one.number:>3}  {one.where:<22} {one.seconds:>9.1f}  {one.whom:<24} {len(one.left):>4}  {words}", flush=True)  # fmt: skip
    fresh.clear()


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@contextmanager
def undisturbed(line: Line, overrides: dict[str, Any], folder: Path) -> Iterator[Any]:
    """Let plain `dvc repro` make the same meanwhile, from the very same commit, with a cache of its own; yield its lock."""
    subprocess.run(["git", "clone", "-q", str(line.source), str(folder)], check=True)
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    for dotted, value in overrides.items():
        section, key = dotted.split(".")
        tree[section][key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    environment = line.environment | {"PYTHONPATH": str(folder)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (folder / "repro.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )  # fmt: skip

    def lock() -> dict[str, Any]:
        assert process.wait(900) == 0, (folder / "repro.log").read_text()[-3000:]
        assert git_head(folder) == git_head(line.slot) == git_head(line.source), "the code is the same"
        content: dict[str, Any] = yaml.safe_load((folder / "dvc.lock").read_text())
        return content

    try:
        yield lock
    finally:
        kill(list(below(folder)))


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


def standing(line: Line) -> tuple[set[int], set[str]]:
    """The versions that MLflow has, and the digests that the ledger has."""
    from mlflow import MlflowClient

    versions = {int(one.version) for one in MlflowClient().search_model_versions("name = 'needledrop'")}
    with create_engine(line.environment["NEEDLEDROP_LEDGER_URL"]).connect() as ledger:
        there = ledger.execute(text("select to_regclass('releases')")).scalar_one()
        rows = ledger.execute(text("select digest from releases")).scalars().all() if there else []
    assert len(rows) == len(set(rows)), "a version is in the ledger twice"
    return versions, set(rows)


def check_versions(line: Line, before: tuple[set[int], set[str]], pipelines: int) -> None:
    """One version more for each pipeline, in MLflow as in the ledger, each with the files that were registered."""
    from mlflow import MlflowClient

    from flows.release.mirror import standing as releases
    from flows.release.unit import verify_stored
    from flows.workspace.platform import Platform
    from flows.workspace.workspace import Workspace

    versions, digests = standing(line)
    new = versions - before[0]
    assert (len(new), len(digests - before[1])) == (pipelines, pipelines), f"{new}, {digests - before[1]}"
    found = [one for one in releases(Platform.at(Workspace(line.slot))).releases if one.version in new]
    assert {one.version for one in found} == new
    for release in found:
        verify_stored(MlflowClient(), release)


def check_nothing_is_left(line: Line, kills: list[Kill], may_have_failed: bool = False) -> None:
    from mlflow import MlflowClient

    with create_engine(line.environment["NEEDLEDROP_LEDGER_URL"]).connect() as ledger:
        assert ledger.execute(text("select count(*) from leases")).scalar_one() == 0
        states = set(ledger.execute(text("select distinct state from attempts")).scalars())
    assert states <= {"finished", "crashed", "skipped"} | ({"failed"} if may_have_failed else set()), states
    client = MlflowClient()
    experiment = client.get_experiment_by_name("needledrop")
    assert experiment is not None
    assert client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'") == []
    assert [process.cmdline() for process in below(line.home)] == [], "no orphans"
    assert [process for one in kills for process in one.left if lives(process)] == []
    left = [
        path for pattern in ("*.part", "*.partial", "*-checkpoints") for path in (line.slot / "data").rglob(pattern)
    ]
    assert left == []
    assert not_ended() == []


def not_ended() -> list[str]:
    """Runs that Prefect believes to be going on."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(limit=200)
    going = [run for run in runs if run.state is not None and not run.state.is_final() and not run.state.is_scheduled()]
    return [f"{run.name}: {run.state}" for run in going]


def summary(kills: list[Kill], pipelines: int) -> None:
    print(f"\n{len(kills)} kills over {pipelines} pipelines, seed {SEED}")
    print("0 models lost, 0 versions doubled, 0 processes left, 0 leases held")
    print(f"\n{'killed in':<24}{'kills':>6}")
    for where in sorted({one.where for one in kills}):
        print(f"{where:<24}{sum(one.where == where for one in kills):>6}")
    for whom in WHOM:
        of = [one for one in kills if one.whom == whom]
        print(f"killed: {whom:<24}{len(of):>3} times, {sum(len(one.left) for one in of)} processes left and reaped")
