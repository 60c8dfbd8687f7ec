"""DVC's path lock after a crash.

DVC writes which process uses which path into `.dvc/tmp/rwlock`. It drops entries of dead processes
by itself, but not those whose process id now belongs to another program, and it cannot read a file
that a kill has cut short. Both would block every later run.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from flows.workspace.workspace import Workspace


def mend(workspace: Workspace) -> None:
    """Remove what no living dvc process stands behind; leave a dvc command of somebody else alone."""
    import zc.lockfile  # type: ignore[import-untyped]

    path = workspace.root / ".dvc" / "tmp" / "rwlock"
    if not path.exists():
        return
    with contextlib.suppress(zc.lockfile.LockError):  # a dvc command is writing it: then it is well
        guard = zc.lockfile.LockFile(str(path.with_name("rwlock.lock")))
        try:
            _mend(path)
        finally:
            guard.close()


def _mend(path: Path) -> None:
    try:
        lock: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        readers = {file: [info for info in infos if _is_dvc(info)] for file, infos in lock.get("read", {}).items()}
        writers = {file: info for file, info in lock.get("write", {}).items() if _is_dvc(info)}
    except (ValueError, AttributeError, TypeError, KeyError):
        path.unlink()
        return
    part = path.with_name("rwlock.part")
    part.write_text(json.dumps({"read": {file: infos for file, infos in readers.items() if infos}, "write": writers}))
    part.replace(path)


def _is_dvc(info: dict[str, Any]) -> bool:
    try:
        return any("dvc" in word for word in psutil.Process(int(info["pid"])).cmdline())
    except psutil.Error:
        return False
