"""Processes of a run: each in its own session, stopped as a whole, and found again after a crash.

DVC does not pass a signal on to its stage, and a killed flow cannot tell anyone anything. So each
child is marked with the run's id in its environment, which its own children inherit; whatever still
carries the mark of a run that did not end is a leftover.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from flows.environment import child_environment

MARK = "NEEDLEDROP_RUN"

_GRACE_S = 5.0


class Stopped(Exception):
    """The run is being stopped; nothing more is started."""


class Processes:
    """The processes that one run has started."""

    def __init__(self, run_id: str) -> None:
        """Processes will be marked with `run_id`."""
        self._run_id = run_id
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._stopping = False
        self._guard = threading.Lock()

    def run(self, command: list[str], cwd: Path, line: Callable[[str], None]) -> int:
        """Run `command` in its own session, give each line of its output to `line`, return its exit status.

        Errors: as `measured`.
        """
        return self.measured(command, cwd, line)[0]

    def measured(self, command: list[str], cwd: Path, line: Callable[[str], None]) -> tuple[int, float]:
        """Do the same, and return the CPU seconds as well, of the command and all that it has started and waited for.

        What the command leaves running when it ends is killed.

        Raises:
            Stopped: the run is being stopped.
        """
        with self._guard:
            if self._stopping:
                raise Stopped
            child = subprocess.Popen(
                command,
                cwd=cwd,
                env=child_environment({MARK: self._run_id}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._alive.add(child)
        try:
            reader = threading.Thread(target=_read_lines, args=(child, line), daemon=True)
            reader.start()
            cpu_s = _wait(child)
            kill_group(child.pid, signal.SIGKILL)
            reader.join()
            return child.returncode, cpu_s
        finally:
            with self._guard:
                self._alive.discard(child)

    def stop(self) -> None:
        """Stop everything: a polite signal to each group, then, after five seconds, kill."""
        with self._guard:
            self._stopping = True
            alive = list(self._alive)
        for child in alive:
            kill_group(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and any(child.poll() is None for child in alive):
            time.sleep(0.05)
        for child in alive:
            kill_group(child.pid, signal.SIGKILL)


def reap(run_ids: Iterable[str], mark: str = MARK) -> list[int]:
    """Kill what runs that did not end have left behind; return the process ids.

    Call it only while holding the workspace's lock: then no such run can be alive.

    Args:
        run_ids: of those runs.
        mark: the variable that has such an id in the environment of their processes.
    """
    marks = set(run_ids)
    if not marks:
        return []
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    killed = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone meanwhile, or another user's
            if process.pid not in mine and process.environ().get(mark) in marks:
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=_GRACE_S)
    return sorted(process.pid for process in killed)


def _wait(child: "subprocess.Popen[bytes]") -> float:
    """Wait until a child has ended, and return its CPU seconds with those of its own children."""
    # Popen's own wait would take its status and leave nothing to be measured; it knows from here that the child has ended.
    try:
        _, status, used = os.wait4(child.pid, 0)
    except ChildProcessError:  # `stop` has looked at that very moment
        child.wait()
        return 0.0
    child.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def _read_lines(child: "subprocess.Popen[bytes]", line: Callable[[str], None]) -> None:
    assert child.stdout is not None  # noqa: S101
    pending = b""
    while chunk := os.read(child.stdout.fileno(), 65536):
        # A progress bar ends its lines with a carriage return.
        *whole, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        for text in whole:
            line(text.decode("utf-8", errors="replace"))
    if pending:
        line(pending.decode("utf-8", errors="replace"))
    child.stdout.close()


def kill_group(group: int, number: signal.Signals) -> None:
    """Send a signal to every process of a group, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
