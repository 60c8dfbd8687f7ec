"""Run one stage through DVC, show what it says, keep its log."""

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flows.errors import Refusal
from flows.workspace import reproduce
from flows.workspace.inputs import Inputs
from flows.workspace.processes import Processes
from flows.workspace.runs import Run

Outcome = Literal["ran", "restored", "skipped"]

_OUTCOMES: dict[int, Outcome] = {reproduce.RAN: "ran", reproduce.RESTORED: "restored", reproduce.SKIPPED: "skipped"}
_BAR = re.compile(r"\d+%\|")
_TAIL_LINES = 12
_EDITED = "since this run began, and an edit belongs to the next one: its result is not kept, run the same again"


class StageFailed(Refusal):
    """A stage ended with an error; the message has its last lines and where its log is."""


class StageEdited(StageFailed):
    """Inputs of a stage were edited after the run began; nothing of it was noted."""


@dataclass(frozen=True)
class StageResult:
    """What became of one stage."""

    name: str
    outcome: Outcome
    """ran; restored: DVC knew the result and put it back; skipped: nothing to do."""
    seconds: float
    report: str
    """The stage's last line: what it did, in its own words."""
    log: str | None
    """Path of its log from the workspace; None where it was not started."""
    cpu_s: float = 0.0
    """CPU seconds of its processes, DVC's own included."""

    def row(self) -> dict[str, Any]:
        """The result as plain values."""
        return asdict(self)


def unchanged(stage: str) -> StageResult:
    """What becomes of a stage that is not given to DVC at all."""
    return StageResult(stage, "skipped", 0.0, "unchanged", None)


class _Listener:
    """Sorts a stage's lines: into the log, onto the terminal, and into what the summary needs."""

    def __init__(self, log: Path, show: Callable[[str], None]) -> None:
        self._log = log.open("a", encoding="utf-8")  # DVC's words are appended by the other process
        self._show = show
        self.report = ""
        self.tail: list[str] = []

    def __call__(self, line: str) -> None:
        line = line.rstrip()
        if not line:
            return
        self._log.write(line + "\n")
        self._log.flush()
        self.tail = [*self.tail, line][-_TAIL_LINES:]
        if not _BAR.search(line):
            self.report = line
        self._show(line)

    def close(self) -> None:
        self._log.close()


def run_stage(
    stage: str,
    root: Path,
    run: Run,
    processes: Processes,
    show: Callable[[str, str], None],
    inputs: Inputs | None = None,
) -> StageResult:
    """Run `stage` with everything before it taken as done; `show(stage, line)` gets its output.

    Args:
        stage: its name.
        root: of the workspace.
        run: that it belongs to.
        processes: of the run.
        show: gets the stage and each line of its output.
        inputs: what it is to run with; None: with what it finds.

    Raises:
        StageEdited: its inputs were edited; no result of it was noted.
        StageFailed: it ended with an error.
        processes.Stopped: the run is being stopped.
    """
    log = run.log_path(stage)
    listener = _Listener(log, lambda line: show(stage, line))
    began = time.monotonic()
    command = [sys.executable, "-m", reproduce.__name__, stage, str(log)]
    command += [json.dumps(asdict(inputs), default=str)] if inputs else []
    try:
        status, cpu_s = processes.measured(command, root, listener)
    finally:
        listener.close()
    seconds = time.monotonic() - began
    where = str(log.relative_to(root))
    if status not in _OUTCOMES:
        run.stage(
            {"name": stage, "outcome": "failed", "seconds": round(seconds, 2), "report": listener.report, "log": where}
            | {"cpu_s": round(cpu_s, 2)}
        )
        if status == reproduce.EDITED:
            raise StageEdited(f"stage '{stage}': {listener.tail[-1]} {_EDITED}")
        raise StageFailed(_failure(stage, status, listener.tail, where))
    result = StageResult(stage, _OUTCOMES[status], round(seconds, 2), listener.report, where, round(cpu_s, 2))
    run.stage(result.row())
    return result


def _failure(stage: str, status: int, tail: list[str], log: str) -> str:
    how = f"was killed by signal {-status}" if status < 0 else "failed"
    lines = "".join(f"\n    {line}" for line in tail if not _BAR.search(line))
    return f"stage '{stage}' {how}; its last lines:{lines}\n  whole log: {log}"
