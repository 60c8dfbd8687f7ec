"""Leases between real processes on one ledger: one has it, a dead holder loses it, one that slept stops."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from flows.environment import Environment
from flows.ledger.database import transaction
from flows.ledger.lease import LEASES, Leased, LeaseLost, free_dead, lease, leases
from flows.workspace.holder import Holder, me, place
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]

# Takes the lease, says so, works until told to end by its standard input, and says how it ended.
HOLDER = """
import sys, time
from pathlib import Path
from flows.environment import Environment
from flows.ledger.lease import lease, Leased, LeaseLost
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
root, seconds, wait_s, work_s = sys.argv[1:]
try:
    with lease(Platform(Workspace(Path(root)), Environment()), "train", float(seconds), float(wait_s), run="one"):
        print("has it", flush=True)
        end = time.monotonic() + float(work_s)
        while time.monotonic() < end:
            time.sleep(0.02)
            print("works\\n", end="", flush=True)  # in one write: the loss of the lease may come at any moment
    print("done", flush=True)
except Leased as error:
    print(f"busy: {error}", flush=True)
except LeaseLost as error:
    print(f"lost: {error}", flush=True)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that takes the lease; all are killed at the end."""
    started = []

    def one(seconds: float, wait_s: float, work_s: float) -> "subprocess.Popen[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NEEDLEDROP_")}
        words = [sys.executable, "-c", HOLDER, str(tmp_path), str(seconds), str(wait_s), str(work_s)]
        process = subprocess.Popen(
            words,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    """The next thing a process says that is not `works`."""
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() != "works":
            return said.strip()
    return ""


def held_by(workspace: Workspace) -> list[int]:
    with transaction(Platform(workspace, Environment())) as connection:
        return [row.pid for row in leases(connection)]


def test_of_two_that_want_it_one_has_it_and_the_other_waits_its_turn(start: Start, workspace: Workspace) -> None:
    first = start(30, 0, 0.5)
    assert line(first) == "has it"
    second = start(30, 20, 0)
    words = rf"process {first.pid} on .* \(run one\) has 'train'"
    with pytest.raises(Leased, match=words) as refused, lease(Platform(workspace, Environment()), "train"):
        pass
    assert refused.value.code == 5
    assert line(first) == "done"
    assert line(second) == "has it"
    assert line(second) == "done"
    assert held_by(workspace) == []


def test_many_at_once_take_turns(start: Start, workspace: Workspace, tmp_path: Path) -> None:
    several = [start(30, 60, 0.05) for _ in range(3)]
    assert sorted(line(process) for process in several) == ["has it"] * 3
    assert [line(process) for process in several] == ["done"] * 3


def test_a_killed_holder_loses_it_at_once(start: Start, workspace: Workspace) -> None:
    first = start(3600, 0, 600)
    assert line(first) == "has it"
    first.send_signal(signal.SIGKILL)
    first.wait()
    with lease(Platform(workspace, Environment()), "train"):
        assert held_by(workspace) == [os.getpid()]


def test_one_that_slept_past_the_end_of_its_lease_stops(start: Start, workspace: Workspace) -> None:
    first = start(0.6, 0, 600)
    assert line(first) == "has it"
    first.send_signal(signal.SIGSTOP)
    with lease(Platform(workspace, Environment()), "train", 60, wait_s=20):
        first.send_signal(signal.SIGCONT)
        assert line(first).startswith("lost: the lease 'train' was lost")
        assert first.wait(10) == 0
        assert held_by(workspace) == [os.getpid()], "the loser does not take the new holder's lease away"


def test_one_that_lives_keeps_it_beyond_its_seconds(start: Start, workspace: Workspace) -> None:
    first = start(0.6, 0, 600)
    assert line(first) == "has it"
    with pytest.raises(Leased), lease(Platform(workspace, Environment()), "train", wait_s=1.5):
        pass


def test_a_body_that_loses_it_is_stopped_in_mid_work(workspace: Workspace) -> None:
    with pytest.raises(LeaseLost, match="run it again"), lease(Platform(workspace, Environment()), "train", 0.4):
        with transaction(Platform(workspace, Environment())) as connection:
            connection.execute(LEASES.update().values(token="another's"))  # noqa: S106
        time.sleep(30)
    with transaction(Platform(workspace, Environment())) as connection:
        assert connection.execute(select(LEASES.c.token)).scalar_one() == "another's"


def test_before_a_step_that_must_be_done_once_the_holder_can_ask(workspace: Workspace) -> None:
    with pytest.raises(LeaseLost), lease(Platform(workspace, Environment()), "train", 600) as held:
        held.check()
        with transaction(Platform(workspace, Environment())) as connection:
            connection.execute(LEASES.delete())
        held.check()


def test_it_is_free_after_an_error(workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), lease(Platform(workspace, Environment()), "train"):
        _ = 1 / 0
    assert held_by(workspace) == []


@pytest.mark.parametrize(
    ("where", "started", "expires_s", "freed"),
    [
        ("here", 0.0, 60, False),  # lives
        ("here", -3600.0, 60, True),  # the number was given to another process since
        ("elsewhere/boot/", 0.0, 60, False),  # unknown, and not silent yet
        ("elsewhere/boot/", 0.0, -1, True),  # silent for too long
    ],
)
def test_who_counts_as_dead(workspace: Workspace, where: str, started: float, expires_s: float, freed: bool) -> None:
    expires = (datetime.now(UTC) + timedelta(seconds=expires_s)).isoformat(timespec="milliseconds")
    row = {"name": "train", "token": "t", "run": "r", "acquired": expires, "expires": expires}
    row |= {"place": place() if where == "here" else where, "pid": os.getpid(), "started": me().started + started}
    with transaction(Platform(workspace, Environment())) as connection:
        connection.execute(insert(LEASES).values(**row))
        assert free_dead(connection) == (["train"] if freed else [])


def test_a_process_that_waits_to_be_collected_is_dead() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import psutil; print(psutil.Process().create_time())"], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    holder = Holder(place(), child.pid, json.loads(child.stdout.readline()))
    deadline = time.monotonic() + 10
    while holder.life() == "alive" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert holder.life() == "dead"
    child.wait()
