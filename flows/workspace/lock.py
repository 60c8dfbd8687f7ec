"""One command at a time may change a workspace.

The lock is a `flock`: the kernel frees it when its holder dies, however it dies, so there is never
a stale lock to remove by hand.
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any

from flows.errors import BUSY, Refusal
from flows.workspace.workspace import Workspace

_held: dict[str, int] = {}  # workspace root -> depth; the command line and its flow both hold it


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
    key = str(workspace.root)
    if key not in _held:
        workspace.state.mkdir(parents=True, exist_ok=True)
        with workspace.lock_file.open("a+", encoding="utf-8") as handle:
            _acquire(handle, wait)
            _held[key] = 1
            try:
                yield
            finally:
                del _held[key]
                handle.truncate(0)
        return
    _held[key] += 1
    try:
        yield
    finally:
        _held[key] -= 1


def holder(workspace: Workspace) -> dict[str, Any] | None:
    """Who holds the lock: `pid`, `since`, `command`; None when it is free."""
    try:
        with workspace.lock_file.open("r+", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _read(workspace)


def _read(workspace: Workspace) -> dict[str, Any]:
    # The holder may be about to write its line; an empty file says only that it is held.
    for _ in range(20):
        try:
            line: dict[str, Any] = json.loads(workspace.lock_file.read_text(encoding="utf-8"))
            return line
        except (OSError, ValueError):
            time.sleep(0.02)
    return {"pid": None, "since": "just now", "command": "unknown"}


def _acquire(handle: IO[str], wait: bool) -> None:
    if not _try(handle):
        who = _describe(handle)
        if not wait:
            raise Busy(f"busy: {who}; wait for it with --wait, or stop it first")
        print(f"waiting: {who}", file=sys.stderr, flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    handle.seek(0)
    handle.truncate(0)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    json.dump({"pid": os.getpid(), "since": now, "command": _command()}, handle)
    handle.flush()


def _try(handle: IO[str]) -> bool:
    for attempt in range(5):  # `status` looks by taking the lock for a moment: that is not "busy"
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02 * attempt)
    return False


def _describe(handle: IO[str]) -> str:
    for _ in range(20):
        handle.seek(0)
        try:
            line = json.loads(handle.read())
            return f"process {line['pid']} ({line['command']}) works here since {line['since']}"
        except (ValueError, KeyError):
            time.sleep(0.02)
    return "another process works here"


def _command() -> str:
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:2]]  # noqa: PTH119 - argv[0] may be "-c"
    return " ".join(words)
