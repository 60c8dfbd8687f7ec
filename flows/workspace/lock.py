"""One command at a time may change a workspace.

The lock is one of the operating system's: the kernel frees it when its holder dies, however it dies,
so there is never a stale lock to remove by hand. Beside it lies a note of who holds it, for messages.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.errors import BUSY, Refusal
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from filelock import BaseFileLock

_LOOK_S: Final = 0.2  # `status` looks by taking the lock for a moment: that is not "busy"
_UNKNOWN: Final = {"pid": None, "since": "just now", "command": "unknown"}


class Busy(Refusal):
    """Another command works in this workspace."""

    code = BUSY


@contextmanager
def hold(workspace: Workspace, wait: bool = False) -> Iterator[None]:
    """Hold the workspace's lock; re-entrant within one process.

    Args:
        workspace: the workspace to lock.
        wait: wait until it is free instead of refusing.

    Raises:
        Busy: another process holds it, and `wait` is false.
    """
    from filelock import Timeout

    workspace.state.mkdir(parents=True, exist_ok=True)
    lock = _lock(workspace)
    outermost = not lock.is_locked
    try:
        lock.acquire(timeout=_LOOK_S, poll_interval=0.02)
    except Timeout:
        who = _words(_read(workspace))
        if not wait:
            raise Busy(f"busy: {who}; wait for it with --wait, or stop it first") from None
        print(f"waiting: {who}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        if outermost:
            _write(workspace)
        yield
    finally:
        if outermost:
            _note(workspace).unlink(missing_ok=True)
        lock.release()


def holder(workspace: Workspace) -> dict[str, Any] | None:
    """Who holds the lock: `pid`, `since`, `command`; None when it is free."""
    from filelock import Timeout

    if not workspace.lock_file.exists():
        return None
    lock = _lock(workspace)
    if lock.is_locked:
        return _read(workspace)
    try:
        with lock.acquire(timeout=0):
            return None
    except Timeout:
        return _read(workspace)


def _lock(workspace: Workspace) -> "BaseFileLock":
    """The lock of a workspace: one object in a process, in whichever thread; the command line and its flow both hold it."""
    from filelock import FileLock

    return FileLock(workspace.lock_file, is_singleton=True, thread_local=False)


def _note(workspace: Workspace) -> Path:
    return workspace.lock_file.with_suffix(".json")


def _write(workspace: Workspace) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:2]]  # noqa: PTH119 - argv[0] may be "-c"
    note = {"pid": os.getpid(), "since": now, "command": " ".join(words)}
    _note(workspace).write_text(json.dumps(note), encoding="utf-8")


def _read(workspace: Workspace) -> dict[str, Any]:
    # The holder may be about to write its note.
    for _ in range(20):
        with suppress(OSError, ValueError):
            note: dict[str, Any] = json.loads(_note(workspace).read_text(encoding="utf-8"))
            return note
        time.sleep(0.02)
    return dict(_UNKNOWN)


def _words(note: dict[str, Any]) -> str:
    if note["pid"] is None:
        return "another process works here"
    return f"process {note['pid']} ({note['command']}) works here since {note['since']}"
