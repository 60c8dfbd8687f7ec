"""One generic task: run one stage through DVC, show what it says, keep its log."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows.errors import Refusal
from flows.workspace.processes import Processes
from flows.workspace.runs import Run

Outcome = Literal["ran", "restored", "skipped"]

# DVC's own words around a stage's. The stage's are what is shown; the log has all.
_DVC_BEFORE = re.compile(
    r"Running stage '|> |Generating lock file|Updating lock file|Stage '.*' is cached|Stage '.*' didn't|Data and pipelines are"
    r"|WARNING: '.*' is empty"  # the media folder of a corpus that stays where it is
)
_RESTORED = re.compile(r"Stage '.*' is cached - skipping run")
_SKIPPED = re.compile(r"Stage '.*' didn't change, skipping")
_BAR = re.compile(r"\d+%\|")
_TAIL_LINES = 12


class StageFailed(Refusal):
    """A stage ended with an error; the message has its last lines and where its log is."""


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

    def row(self) -> dict[str, Any]:
        """The result as plain values."""
        return asdict(self)


class _Listener:
    """Sorts a stage's lines: into the log, onto the terminal, and into what the summary needs."""

    def __init__(self, log: Path, show: Callable[[str], None]) -> None:
        self._log = log.open("w", encoding="utf-8")
        self._show = show
        self._dvc_speaks = False
        self.outcome: Outcome = "ran"
        self.report = ""
        self.tail: list[str] = []

    def __call__(self, line: str) -> None:
        line = line.rstrip()
        if not line:
            return
        self._log.write(line + "\n")
        self._log.flush()
        if _RESTORED.match(line):
            self.outcome = "restored"
        elif _SKIPPED.match(line):
            self.outcome = "skipped"
        # After it has written the lock file, DVC gives advice on git and remotes.
        self._dvc_speaks = self._dvc_speaks or line.startswith(("Updating lock file", "Use `dvc push`"))
        if self._dvc_speaks or _DVC_BEFORE.match(line):
            return
        self.tail = [*self.tail, line][-_TAIL_LINES:]
        if not _BAR.search(line):
            self.report = line
        self._show(line)

    def close(self) -> None:
        self._log.close()


def run_stage_now(
    stage: str, root: Path, run: Run, processes: Processes, show: Callable[[str, str], None]
) -> StageResult:
    """Run `stage` with everything before it taken as done; `show(stage, line)` gets its output.

    Raises:
        StageFailed: it ended with an error.
        processes.Stopped: the run is being stopped.
    """
    log = run.log_path(stage)
    listener = _Listener(log, lambda line: show(stage, line))
    began = time.monotonic()
    # --single-item: the flow knows the order; --wait-for-lock: two stages may start at once.
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    try:
        status = processes.run(command, root, listener)
    finally:
        listener.close()
    seconds = time.monotonic() - began
    where = str(log.relative_to(root))
    if status != 0:
        run.stage(
            {"name": stage, "outcome": "failed", "seconds": round(seconds, 2), "report": listener.report, "log": where}
        )
        raise StageFailed(_failure(stage, status, listener.tail, where))
    result = StageResult(stage, listener.outcome, round(seconds, 2), listener.report, where)
    run.stage(result.row())
    return result


def _failure(stage: str, status: int, tail: list[str], log: str) -> str:
    how = f"was killed by signal {-status}" if status < 0 else "failed"
    lines = "".join(f"\n    {line}" for line in tail if not _BAR.search(line))
    return f"stage '{stage}' {how}; its last lines:{lines}\n  whole log: {log}"


# Prefect's own cache could skip a stage that DVC would run; a retry would only repeat a pure function.
@task(cache_policy=NO_CACHE, retries=0, persist_result=False)
def run_stage(stage: str, root: Path, run: Run, processes: Processes, show: Callable[[str, str], None]) -> StageResult:
    """Run one stage as a Prefect task; its lines also go to the task's log."""
    logger = get_run_logger()

    def both(name: str, line: str) -> None:
        show(name, line)
        logger.info("%s", line)

    return run_stage_now(stage, root, run, processes, both)
