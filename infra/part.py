"""One process of the local stack: started apart from its starter, found again, stopped with all it started.

A process id alone may be another program's by now, so its start time is kept beside it. What a part starts
inherits a mark in its environment; whatever still carries the mark after a stop is a leftover.
"""

import contextlib
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from components.stage import write_json
from flows.errors import ERROR, Refusal

MARK = "NEEDLEDROP_STACK_PART"

_STOP_S = 15.0
_OURS = ("PREFECT_", "MLFLOW_", "NEEDLEDROP_", "AWS_", "PG")  # never inherited from the caller's shell


@dataclass(frozen=True)
class Part:
    """How to start one process, and how to tell that it is well."""

    name: str
    folder: Path
    """The stack's folder: logs, process ids."""
    command: list[str]
    problem: Callable[[], str | None]
    """Why it is not healthy, in words; None when it is."""
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    """The account it runs as; default: the caller's."""
    stop_signal: signal.Signals = signal.SIGTERM
    cwd: Path | None = None
    """Where it runs; default: the stack's folder."""

    @property
    def log(self) -> Path:
        """Where its output goes; kept across starts."""
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return self.folder / "run" / f"{self.name}.json"

    @property
    def _mark(self) -> str:
        return f"{self.folder}:{self.name}"

    def process(self) -> psutil.Process | None:
        """The running process, or None."""
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created"]) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, psutil.Error):
            return None

    def start(self) -> None:
        """Start it, if it does not run."""
        if self.process() is not None:
            return
        self.clear()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment |= self.environment | {MARK: self._mark, "PYTHONUNBUFFERED": "1"}
        account = pwd.getpwnam(self.user) if self.user else None
        with self.log.open("ab") as output:
            child = subprocess.Popen(
                self.command,
                cwd=self.cwd or self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        write_json(self._record, {"pid": child.pid, "created": psutil.Process(child.pid).create_time()})

    def wait_healthy(self, deadline: float) -> None:
        """Wait until it is well; `deadline` is on the monotonic clock.

        Raises:
            Refusal: it ended, or is not well in time; with its last line and the name of its log.
        """
        while True:
            if self.process() is None:
                raise Refusal(f"{self.name} ended by itself ({self._last_line()}); see {self.log}", ERROR)
            if (problem := self.problem()) is None:
                return
            if time.monotonic() > deadline:
                raise Refusal(f"{self.name} runs and is not well ({problem}); see {self.log}", ERROR)
            time.sleep(0.2)

    def stop(self) -> None:
        """Ask it to end; after fifteen seconds, kill it. Then nothing of it is left."""
        process = self.process()
        if process is not None:
            for number in (self.stop_signal, signal.SIGCONT):  # a suspended process cannot end
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            psutil.wait_procs([process], timeout=_STOP_S)
        self.clear()
        self._record.unlink(missing_ok=True)

    def clear(self) -> None:
        """Kill what is left of it: of a crashed one, a child may still hold the port."""
        left = self.members()
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, timeout=_STOP_S)

    def members(self) -> list[psutil.Process]:
        """It and everything it has started that still runs."""
        found: dict[int, psutil.Process] = {}
        if (process := self.process()) is not None:
            with contextlib.suppress(psutil.Error):
                found = {one.pid: one for one in (process, *process.children(recursive=True))}
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # gone meanwhile, or another user's
                if one.environ().get(MARK) == self._mark:
                    found[one.pid] = one
        return list(found.values())

    def memory_mib(self) -> float:
        """Memory of it and what it has started; pages that processes share are counted once."""
        total = 0
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
        return total / 2**20

    def _last_line(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")[-50:]
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it said nothing")
