"""Examine files in worker processes, so that a decoder's crash or a hang costs one file, not the run.

`concurrent.futures` gives the whole pool up when one process dies; here each worker has its own pipe
and one file at a time, so the parent knows which file was to blame and starts another worker.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

from components.ingest.examine import Finding, examine
from components.ingest.params import Decoding, Limits

_TRIES: Final = 2  # a worker that was killed from outside must not cost a good file


class Job(NamedTuple):
    """A file to examine. ``key`` comes back with the finding."""

    key: Any
    path: Path
    picture: bool


def examine_all(jobs: Iterable[Job], decoding: Decoding, limits: Limits) -> Iterator[tuple[Any, Finding]]:
    """Yield (key, finding) in the order of completion.

    A file that kills its worker twice is refused as decoder_crash, one that takes longer than the
    limit as timeout; neither says anything certain about the file, so neither should be cached.
    """
    waiting = deque((job, 1) for job in jobs)
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.task for worker in workers):
            idle = [worker for worker in workers if worker.task is None]
            while waiting and (idle or len(workers) < decoding.workers):
                if not idle:
                    workers.append(_Worker(decoding, limits))
                    idle.append(workers[-1])
                idle.pop().start(*waiting.popleft())
            for worker in _ready(workers):
                job, tries = worker.take()
                finding = worker.result()
                if finding is None:
                    workers.remove(worker)
                    finding = worker.post_mortem()
                    if finding.reason == "decoder_crash" and tries < _TRIES:
                        waiting.append((job, tries + 1))
                        continue
                yield job.key, finding
    finally:
        for worker in workers:
            worker.stop()


def _ready(workers: list["_Worker"]) -> list["_Worker"]:
    """Wait until a busy worker has answered, died, or run out of time; return those."""
    busy = [worker for worker in workers if worker.task]
    patience_s = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
    connection.wait([worker.pipe for worker in busy], patience_s)
    return [worker for worker in busy if worker.pipe.poll() or time.monotonic() >= worker.deadline]


@dataclass(frozen=True)
class _Task:
    job: Job
    tries: int


class _Worker:
    """One process and its pipe. The pipe reads as ended when the process dies."""

    def __init__(self, decoding: Decoding, limits: Limits) -> None:
        context = get_context("spawn")  # a forked copy of a process with threads may hang
        self.pipe, far_end = context.Pipe()
        self.task: _Task | None = None
        self.deadline = 0.0
        self._limit_s = decoding.file_limit_s
        self._process = context.Process(target=_serve, args=(far_end, decoding.memory_limit_mib, limits), daemon=True)
        self._process.start()
        far_end.close()

    def start(self, job: Job, tries: int) -> None:
        """Hand the worker a file."""
        self.task = _Task(job, tries)
        self.deadline = time.monotonic() + self._limit_s
        try:
            self.pipe.send((job.path, job.picture))
        except OSError:
            self.deadline = 0.0  # it died while idle; the next look finds that

    def take(self) -> tuple[Job, int]:
        """Take the task back from a worker that is ready."""
        assert self.task is not None
        task, self.task = self.task, None
        return task.job, task.tries

    def result(self) -> Finding | None:
        """Return what the worker found; None when it died or ran out of time."""
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            return None

    def post_mortem(self) -> Finding:
        """Stop a worker without an answer and say why it has none."""
        hung = self.deadline > 0.0 and time.monotonic() >= self.deadline
        self.stop()
        if hung:
            return Finding("timeout", f"not decoded within {self._limit_s:g} s")
        return Finding("decoder_crash", f"the decoder died (exit code {self._process.exitcode})")

    def stop(self) -> None:
        """End the process; a decoder may be stuck in native code, so without asking it."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: connection.Connection, memory_limit_mib: int, limits: Limits) -> None:
    """Answer with a finding for each file, until the parent closes the pipe or kills us."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory_limit_mib << 20, memory_limit_mib << 20))
    while True:
        try:
            path, picture = pipe.recv()
        except EOFError:
            return
        pipe.send(examine(path, limits, picture))
