"""The workspace's lock: one holder, named; free as soon as it dies."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.errors import BUSY
from flows.workspace.lock import Busy, hold, holder
from flows.workspace.rwlock import mend
from flows.workspace.workspace import Workspace

from .conftest import ROOT

HOLD = """
import sys, time
from pathlib import Path
from flows.workspace.lock import hold
from flows.workspace.rwlock import mend
from flows.workspace.workspace import Workspace
with hold(Workspace(Path(sys.argv[1])), wait=True):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def other(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_command_is_told_who_works_and_since_when(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    first = other(tmp_path, 300)
    try:
        with pytest.raises(Busy, match=rf"process {first.pid} .* since 20\d\d-") as busy, hold(workspace):
            pass
        assert busy.value.code == BUSY == 5
        who = holder(workspace)
        assert who is not None and who["pid"] == first.pid
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    with hold(workspace):  # a kill -9 leaves nothing to clean
        pass


def test_waiting_ends_when_the_holder_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = other(tmp_path, 0.5)
    with hold(Workspace(tmp_path), wait=True), first:
        assert first.wait() == 0
    assert f"waiting: process {first.pid}" in capsys.readouterr().err


def test_the_flow_may_hold_what_the_command_line_holds(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert holder(workspace) is None
    with hold(workspace), hold(workspace):
        pass
    assert holder(workspace) is None


def test_what_a_kill_left_in_dvcs_own_lock_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    mine, dead = {"pid": os.getpid(), "cmd": "dvc repro"}, {"pid": 2**22 - 1, "cmd": "dvc repro"}
    # Our pid stands for one that was given to another program since.
    path.write_text(json.dumps({"read": {"/a": [mine, dead]}, "write": {"/b": dead}}))
    mend(Workspace(tmp_path))
    assert json.loads(path.read_text()) == {"read": {}, "write": {}}
    path.write_text('{"read": {"/a": [{"pi')
    mend(Workspace(tmp_path))
    assert not path.exists()

    # It speaks first: for an instant after its start a process has no command line yet.
    speaks = "import time; print(flush=True); time.sleep(300)"
    dvc = subprocess.Popen([sys.executable, "-c", speaks, "dvc", "repro"], stdout=subprocess.PIPE)
    try:
        assert dvc.stdout is not None and dvc.stdout.readline() == b"\n"
        held = {"read": {}, "write": {"/b": {"pid": dvc.pid, "cmd": "dvc repro"}}}
        path.write_text(json.dumps(held))
        mend(Workspace(tmp_path))
        assert json.loads(path.read_text()) == held, "somebody's dvc is at work"
    finally:
        dvc.kill()
        dvc.communicate()


def test_a_failure_frees_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(RuntimeError), hold(workspace):
        raise RuntimeError
    assert holder(workspace) is None
