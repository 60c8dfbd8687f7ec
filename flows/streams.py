"""Standard output and standard error that never fail who writes to them.

A disk may be full, a reader may go away, a terminal may not have a letter. A command that died of that would leave its
work half done, or would be told as failed after it has changed something. What cannot be written is left out instead,
and `lost` says so at the end.
"""

import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FIRST = 3  # of the descriptors that are no standard streams


class _Steady(io.RawIOBase):
    """A descriptor that takes everything: its first error is kept, and what is written after that is left out."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name, self.mode = name, "wb"
        self.problem: OSError | None = None
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: "ReadableBuffer", /) -> int:
        while self.problem is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # a pipe that another program has set so: its reader is behind
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.problem = error
        return memoryview(data).nbytes


def steady() -> None:
    """Make the standard streams of this process, and those of the Python programs that it starts, take every letter and every error.

    A letter that they do not have is written as a question mark, or by its number on standard error. A stream that was
    closed before we began leads nowhere: otherwise the first file that is opened would take its place, and would be
    written into. A stream that somebody else has put in its place stays.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) < _FIRST:
        os.set_inheritable(spare, True)
    os.close(spare)
    sys.stdout = _made(sys.stdout, sys.__stdout__, 1, "replace")
    sys.stderr = _made(sys.stderr, sys.__stderr__, 2, "backslashreplace")
    os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding or 'utf-8'}:replace"


def lost() -> str | None:
    """Write out what waits; return why standard output did not take all, None where it did or its reader wanted no more."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    problem = raw.problem if isinstance(raw, _Steady) else None
    if problem is None or isinstance(problem, BrokenPipeError):
        return None
    return problem.strerror or str(problem)


def _made(now: TextIO | None, first: TextIO | None, descriptor: int, errors: str) -> TextIO:
    if now is not None and now is not first:
        return now
    if now is not None:
        now.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Steady(descriptor, f"<{descriptor}>")),
        encoding="utf-8" if now is None else now.encoding,
        errors=errors,
        line_buffering=os.isatty(descriptor) or descriptor == 2,
        write_through=isinstance(now, io.TextIOWrapper) and now.write_through,
    )
