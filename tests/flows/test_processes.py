"""Processes of a run: their output, their end, and finding them again after a kill -9."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows.workspace.processes import MARK, Processes, Stopped, reap

from .conftest import ROOT, gone

# A child that starts a grandchild (which ignores a polite signal), says its pid, and waits.
FAMILY = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep({seconds})
"""


def test_lines_and_the_exit_status_arrive(tmp_path: Path) -> None:
    lines: list[str] = []
    script = r"import sys; print('one'); sys.stderr.write('10%|#\r20%|##\r'); print('\u00e9'); sys.stdout.write('no newline'); sys.exit(3)"
    assert Processes("run").run([sys.executable, "-X", "utf8", "-c", script], tmp_path, lines.append) == 3
    assert [line for line in lines if line] == ["one", "10%|#", "20%|##", "é", "no newline"]


def test_a_child_has_our_interpreter_first_and_the_mark(tmp_path: Path) -> None:
    lines: list[str] = []
    Processes("run-7").run(["/bin/sh", "-c", f"command -v python; echo ${MARK}"], tmp_path, lines.append)
    assert lines == [str(Path(sys.executable).with_name("python")), "run-7"]


def test_the_cpu_seconds_of_a_command_are_those_of_its_children_too(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < {}: pass"
    family = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn.format(0.6)!r}]); sys.exit(3)"
    status, cpu_s = Processes("run").measured([sys.executable, "-c", family], tmp_path, [].append)
    assert (status, 0.6 <= cpu_s < 3.0) == (3, True), cpu_s
    assert Processes("run").measured(["sleep", "0.3"], tmp_path, [].append)[1] < 0.2, "waiting costs nothing"


def test_what_a_command_leaves_running_is_killed_when_it_ends(tmp_path: Path) -> None:
    lines: list[str] = []
    assert Processes("run").run([sys.executable, "-c", FAMILY.format(seconds=0)], tmp_path, lines.append) == 0
    assert gone(int(lines[0]))


def test_stop_ends_the_whole_family_and_starts_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.workspace.processes._GRACE_S", 0.3)
    processes, lines, status = Processes("run"), [], []
    thread = threading.Thread(
        target=lambda: status.append(
            processes.run([sys.executable, "-c", FAMILY.format(seconds=300)], tmp_path, lines.append)
        )
    )
    thread.start()
    while not lines:
        time.sleep(0.02)
    processes.stop()
    thread.join(timeout=10)
    assert status == [-signal.SIGTERM]
    assert gone(int(lines[0]))
    with pytest.raises(Stopped):
        processes.run(["true"], tmp_path, lines.append)


def test_leftovers_of_a_killed_run_are_found_and_others_are_left_alone(tmp_path: Path) -> None:
    flow = (
        "import sys; from pathlib import Path; from flows.workspace.processes import Processes;"
        f"Processes('lost-run').run([sys.executable, '-c', {FAMILY.format(seconds=300)!r}], Path('.'), lambda line: print(line, flush=True))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(
        [sys.executable, "-c", flow], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    other = subprocess.Popen(["sleep", "300"], env=environment | {MARK: "another-run"})
    try:
        assert killed.stdout is not None
        grandchild = int(killed.stdout.readline())
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert not gone(grandchild, within_s=0.2), "a kill -9 of the flow alone must leave it, or this tests nothing"
        pids = reap(["lost-run"])
        assert grandchild in pids and len(pids) == 2
        assert gone(grandchild)
        assert other.poll() is None
        assert reap(["lost-run"]) == []
    finally:
        other.kill()
        other.wait()
