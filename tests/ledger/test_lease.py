"""Leases between real processes on one ledger: one has it, a dead holder loses it, one that lost it stops."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import delete, insert, select, update

from flows.environment import Environment
from flows.ledger.database import reading, transaction
from flows.ledger.lease import LEASES, Holder, Leased, LeaseLost, check, free_dead, lease, leases, me, place
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]

# Takes the lease, says so, works as the last word says, and tells how it ended.
HOLDER = """
import subprocess, sys, time
from pathlib import Path
from flows.environment import Environment
from flows.ledger.lease import lease, Leased, LeaseLost
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
root, seconds, wait_s, work_s, how = sys.argv[1:]
if how == "with a clock that jumps":
    whole, jumps = time.time, [0.0, 7200.0, -7200.0]
    time.time = lambda: whole() + jumps[int(time.monotonic() * 20) % 3]
try:
    with lease(Platform(Workspace(Path(root)), Environment()), "train", float(seconds), float(wait_s), run="one"):
        print("has it", flush=True)
        if how == "for ever":
            print(subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL).pid, flush=True)
        end = time.monotonic() + float(work_s)
        while time.monotonic() < end:
            try:
                time.sleep(0.02)
                print("works\\n", end="", flush=True)  # in one write: the loss of the lease may come at any moment
            except LeaseLost:
                if how == "until told twice":
                    how = "told once"
                elif how != "for ever":
                    raise
    print("done", flush=True)
except Leased as error:
    print(f"busy: {error}", flush=True)
except LeaseLost as error:
    print(f"lost: {error} ({how})", flush=True)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.delenv("NEEDLEDROP_LEDGER_URL", raising=False)
    return Platform(Workspace(tmp_path), Environment())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that takes the lease; all are killed at the end."""
    started = []

    def one(seconds: float, wait_s: float, work_s: float, how: str = "") -> "subprocess.Popen[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NEEDLEDROP_")}
        words = [sys.executable, "-c", HOLDER, str(tmp_path), str(seconds), str(wait_s), str(work_s), how]
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


def held_by(platform: Platform) -> list[int]:
    with reading(platform) as connection:
        return [row.pid for row in leases(connection)]


def take_away(platform: Platform, name: str) -> None:
    """Give the lease to another, as after a long silence."""
    with transaction(platform, fenced=False) as connection:
        connection.execute(update(LEASES).where(LEASES.c.name == name).values(token="another's"))  # noqa: S106


def test_of_two_that_want_it_one_has_it_and_the_other_waits_its_turn(start: Start, platform: Platform) -> None:
    first = start(30, 0, 0.5)
    assert line(first) == "has it"
    second = start(30, 20, 0)
    words = rf"process {first.pid} on .* \(run one\) has 'train' since 20"
    with pytest.raises(Leased, match=words) as refused, lease(platform, "train"):
        pass
    assert refused.value.code == 5
    assert line(first) == "done"
    assert line(second) == "has it"
    assert line(second) == "done"
    assert held_by(platform) == []
    assert list(platform.workspace.state.glob("ledger-leases/*")) == [], "no file is left"


def test_many_at_once_take_turns(start: Start) -> None:
    several = [start(30, 60, 0.05) for _ in range(3)]
    assert sorted(line(process) for process in several) == ["has it"] * 3
    assert [line(process) for process in several] == ["done"] * 3


def test_a_killed_holder_loses_it_at_once(start: Start, platform: Platform) -> None:
    first = start(3600, 0, 600)
    assert line(first) == "has it"
    first.send_signal(signal.SIGKILL)
    first.wait()
    with lease(platform, "train"):
        assert held_by(platform) == [os.getpid()]


def test_on_a_file_one_that_is_asleep_keeps_it_for_nobody_else_works_then(start: Start, platform: Platform) -> None:
    first = start(0.6, 0, 600)
    assert line(first) == "has it"
    first.send_signal(signal.SIGSTOP)
    with pytest.raises(Leased, match=f"process {first.pid} "), lease(platform, "train", 60, wait_s=2):
        pass
    with transaction(platform) as connection:
        assert free_dead(connection) == []
    first.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    assert first.poll() is None and held_by(platform) == [first.pid]


def test_one_that_lives_keeps_it_when_the_clock_is_set(start: Start, platform: Platform) -> None:
    first = start(3600, 0, 600)
    assert line(first) == "has it"
    with lease(platform, "mine"), transaction(platform, fenced=False) as connection:
        # The system tells start times from the clock: after it was set, no row has that of its process.
        connection.execute(update(LEASES).values(started=LEASES.c.started - 3600))
        assert free_dead(connection) == []
        first.kill()
        first.wait()
        assert free_dead(connection) == ["train"]


@pytest.mark.parametrize("how", ["", "with a clock that jumps"])
def test_one_that_lives_keeps_it_beyond_its_seconds(start: Start, platform: Platform, how: str) -> None:
    first = start(0.6, 0, 600, how)
    assert line(first) == "has it"
    with pytest.raises(Leased), lease(platform, "train", wait_s=1.5):
        pass
    assert first.poll() is None


def test_a_body_that_loses_it_is_stopped_in_mid_work(platform: Platform) -> None:
    with pytest.raises(LeaseLost, match="run it again"), lease(platform, "train", 0.6):
        take_away(platform, "train")
        time.sleep(30)
    with reading(platform) as connection:
        assert connection.execute(select(LEASES.c.token)).scalar_one() == "another's"


def test_a_loss_that_is_swallowed_is_told_again(start: Start, platform: Platform) -> None:
    first = start(4, 0, 600, "until told twice")
    assert line(first) == "has it"
    take_away(platform, "train")
    assert line(first).endswith("(told once)")


def test_work_that_does_not_stop_is_ended_with_all_it_started(start: Start, platform: Platform) -> None:
    first = start(3, 0, 600, "for ever")
    assert line(first) == "has it"
    child = int(line(first))
    take_away(platform, "train")
    assert line(first) == ""
    assert first.wait(20) == 1
    assert first.stderr is not None and "did not stop and is ended" in first.stderr.read()
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("gone", "words"), [(("outer",), "the lease 'outer' was"), (("inner",), "the lease 'inner' was")]
)
def test_of_two_leases_the_lost_one_is_named(platform: Platform, gone: tuple[str, ...], words: str) -> None:
    with (
        pytest.raises(LeaseLost) as lost,
        lease(platform, "outer", 0.6),
        lease(platform, "inner", 0.6),
    ):
        for name in gone:
            take_away(platform, name)
        time.sleep(30)
    assert str(lost.value).startswith(words)
    with reading(platform) as connection:
        rest = {row.name: row.token for row in leases(connection)}
    assert rest == dict.fromkeys(gone, "another's"), "the other one is given back"


def test_the_outer_lease_is_heard_after_the_inner_one_has_ended(platform: Platform) -> None:
    with pytest.raises(LeaseLost, match="'outer'"), lease(platform, "outer", 0.6):
        with lease(platform, "inner", 0.6):
            pass
        take_away(platform, "outer")
        time.sleep(30)


def test_the_signal_means_what_it_meant_before(platform: Platform) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    with lease(platform, "outer"), lease(platform, "inner"):
        assert signal.getsignal(signal.SIGUSR2) is not before
    assert signal.getsignal(signal.SIGUSR2) is before


def test_before_a_step_that_must_be_done_once_the_holder_can_ask(platform: Platform) -> None:
    check()
    with pytest.raises(LeaseLost), lease(platform, "train", 600), lease(platform, "other", 600):
        check()
        with transaction(platform) as connection:
            connection.execute(delete(LEASES).where(LEASES.c.name == "train"))
        check()
    check()


def test_who_has_lost_a_lease_writes_nothing_more(platform: Platform) -> None:
    row = {"key": "drift", "at": "2026-01-01", "state": "sent"}
    from flows.ledger.notices import NOTICES

    with pytest.raises(LeaseLost), lease(platform, "train", 600):
        with transaction(platform) as connection:
            connection.execute(insert(NOTICES).values(**row))
        take_away(platform, "train")
        with transaction(platform) as connection:
            connection.execute(insert(NOTICES).values(**row | {"key": "another"}))
    with reading(platform) as connection:
        assert connection.execute(select(NOTICES.c.key)).scalars().all() == ["drift"]


def test_it_is_free_after_an_error(platform: Platform) -> None:
    with pytest.raises(ZeroDivisionError), lease(platform, "train"):
        _ = 1 / 0
    assert held_by(platform) == []


@pytest.mark.parametrize(
    ("where", "started", "expires_s", "freed"),
    [
        ("here", 0.0, 60, False),  # lives
        ("here", 0.0, -1, False),  # lives, and is asleep: on a file its lock lasts
        ("here", -3600.0, 60, True),  # the number was given to another process since
        ("elsewhere/boot/", 0.0, 60, False),  # unknown, and not silent yet
        ("elsewhere/boot/", 0.0, -1, True),  # silent for too long
    ],
)
def test_who_counts_as_dead(platform: Platform, where: str, started: float, expires_s: float, freed: bool) -> None:
    expires = (datetime.now(UTC) + timedelta(seconds=expires_s)).isoformat(timespec="milliseconds")
    row = {"name": "train", "token": "t", "run": "r", "acquired": expires, "expires": expires}
    row |= {"place": place() if where == "here" else where, "pid": os.getpid(), "started": me().started + started}
    with transaction(platform) as connection:
        connection.execute(insert(LEASES).values(**row))
        assert free_dead(connection) == (["train"] if freed else [])


def test_a_holder_of_the_first_release_which_knew_no_locks_is_heeded(platform: Platform) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat(timespec="milliseconds")
    row = {"name": "train", "token": "t", "place": "elsewhere/boot/", "pid": 1, "started": 0.0, "run": "old"}
    with transaction(platform) as connection:
        connection.execute(insert(LEASES).values(**row, acquired=soon, expires=soon))
    with pytest.raises(Leased, match="process 1 on elsewhere"), lease(platform, "train"):
        pass
    with lease(platform, "train", wait_s=30):
        assert held_by(platform) == [os.getpid()]


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
    child.communicate()
