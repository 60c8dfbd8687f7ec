"""A workspace for each deployed run: a clone of the project at one commit, its run's alone while that lasts.

The workspaces of a line (`pipeline-1`, `pipeline-2`, ...) lie in one folder of the worker's machine, with one DVC
cache for all. A run takes the one that was used last and is free now: rows and checkpoints of the run
before, also of a killed one, are then where they were. Only when all are in use is a new one made; that
starts with the rows of the last finished run (flows/deploy/here.py). Nothing can be pushed from one.
"""

import contextlib
import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from components.stage import atomic_file, atomic_folder
from flows.environment import Environment, read_environment, redact
from flows.errors import USAGE, Refusal
from flows.workspace.git import git
from flows.workspace.workspace import Workspace

MAIN: Final = "main"
KEEP: Final = 2  # free workspaces of a line that stay
_NOWHERE = "nowhere://runs-never-push"
_FICLONE = 0x40049409  # ioctl: share the blocks of a file, where the file system can
_taken: list[int] = []  # open files whose locks last as long as this process


def pull(line: str) -> dict[str, str]:
    """Make the workspace of this flow run; the `pull` step of every deployment (see prefect.yaml).

    Prefect then goes into the folder and loads the flow from there, so that the flow's code is of the
    same commit as the stages'.

    Args:
        line: runs of one line follow each other in the same workspaces.

    Returns:
        `directory`, for Prefect.

    Raises:
        Refusal: the environment of the worker lacks something, or there is no such commit.
    """
    from prefect.runtime import flow_run

    environment = shared(read_environment())
    assert environment.source and environment.checkouts  # noqa: S101
    asked = str((flow_run.parameters or {}).get("commit") or MAIN)
    workspace = take(environment.checkouts.resolve(), line)
    check_out(workspace, environment.source, asked, environment.checkouts.resolve() / "cache")
    os.chdir(workspace.root)
    _forget_our_code()
    sys.path.insert(0, str(workspace.root))
    os.environ["PYTHONPATH"] = str(workspace.root)  # for what the stages start
    return {"directory": str(workspace.root)}


def shared(environment: Environment) -> Environment:
    """Make sure that runs in different workspaces agree about one registry and one ledger.

    Raises:
        Refusal: naming the variables that are not set.
    """
    needed = {
        "NEEDLEDROP_SOURCE": environment.source,
        "NEEDLEDROP_CHECKOUTS": environment.checkouts,
        "NEEDLEDROP_LEDGER_URL": environment.ledger_url,
        "MLFLOW_TRACKING_URI": environment.tracking_uri,
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise Refusal(f"a deployed run needs {', '.join(missing)} in the environment of its worker", USAGE)
    if not (environment.tracking_uri or "").startswith(("http://", "https://", "databricks")):
        # With a bare database the models would lie in this run's workspace, which is not kept for ever.
        raise Refusal(f"MLFLOW_TRACKING_URI: a deployed run needs a server, not {redact(environment.tracking_uri or '')}", USAGE)  # fmt: skip
    return environment


def take(home: Path, line: str) -> Workspace:
    """Take the workspace of `line` that was used last and is free, or a new one, until this process ends."""
    home.mkdir(parents=True, exist_ok=True)
    numbers = [int(path.stem.rpartition("-")[2]) for path in home.glob(f"{line}-*.lock")]
    used = sorted(numbers, key=lambda number: (home / f"{line}-{number}.lock").stat().st_mtime_ns, reverse=True)
    new = (number for number in range(1, len(numbers) + 2) if number not in numbers)
    for number in (*used, *new):
        handle = os.open(home / f"{line}-{number}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        os.utime(handle)
        _taken.append(handle)
        _remove_surplus(home, line, [other for other in used if other != number])
        return Workspace(home / f"{line}-{number}")
    return take(home, line)  # another run took the new one meanwhile


def check_out(workspace: Workspace, source: str, asked: str, cache: Path) -> str:
    """Bring the code of a workspace to a commit of `source`; data and results stay as they are.

    Args:
        workspace: may not exist yet.
        source: git repository, a path or an address.
        asked: branch, tag or commit.
        cache: DVC cache that all workspaces share.

    Returns:
        The commit.

    Raises:
        Refusal: the repository cannot be read, or has no such commit; the code is as it was.
    """
    root = workspace.root
    if not (root / ".git").is_dir():
        shutil.rmtree(root, ignore_errors=True)
        part = root.with_name(f".{root.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        _git(root.parent, "clone", "-q", "--no-checkout", "--", source, str(part))
        _git(part, "remote", "set-url", "--push", "origin", _NOWHERE)
        part.rename(root)
    (root / ".git" / "index.lock").unlink(missing_ok=True)  # of a killed run; this workspace is ours alone
    _git(root, "remote", "set-url", "origin", source)
    _git(root, "fetch", "-q", "--prune", "--tags", "--force", "origin", "+refs/heads/*:refs/remotes/origin/*")
    commit = _resolve(root, asked, source)
    _git(root, "checkout", "-q", "--force", "--detach", commit)
    _git(root, "clean", "-q", "-fd", "--exclude=dvc.lock")
    cache.mkdir(parents=True, exist_ok=True)
    (root / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
    return commit


def carry_over(source: Path, workspace: Workspace) -> bool:
    """Replace the rows and results of a workspace by another's, sharing the bytes on disk where that is possible.

    Call it while holding the lease of the pipeline: nothing else changes `source` then. Files may be
    shared because a stage never writes into one that it shares: it writes a new one and renames it, or makes the bytes
    its own first (`stage.own_file`). Killed in between,
    it leaves rows and results that do not fit each other, which DVC finds and mends.

    Returns:
        Whether there was anything to carry.
    """
    if source == workspace.root or not (source / "dvc.lock").is_file():
        return False
    for name in ("data", ".needledrop/registered.json", "dvc.lock"):
        there, here = source / name, workspace.root / name
        if there.is_dir():
            with atomic_folder(here) as part:
                shutil.copytree(there, part, copy_function=_same_bytes, symlinks=True, dirs_exist_ok=True)
        elif there.is_file():
            with atomic_file(here) as part:
                shutil.copy2(there, part)
    return True


def _same_bytes(source: str, target: str) -> None:
    """Make `target` a file with the bytes of `source`: shared blocks, else a second name, else a copy."""
    try:
        with open(source, "rb") as there, open(target, "wb") as here:  # noqa: PTH123 - copytree gives text
            fcntl.ioctl(here, _FICLONE, there.fileno())
        shutil.copystat(source, target)
    except OSError:
        os.unlink(target)  # noqa: PTH108
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)


def _resolve(root: Path, asked: str, source: str) -> str:
    for name in (f"refs/remotes/origin/{asked}", f"refs/tags/{asked}", asked):
        said = git("rev-parse", "-q", "--verify", "--end-of-options", f"{name}^{{commit}}", at=root)
        if said.ok:
            return said.out
    raise Refusal(f"no branch, tag or commit '{asked}' in {redact(source)}", USAGE)


def _git(folder: Path, *words: str) -> None:
    said = git(*words, at=folder)
    if not said.ok:
        raise Refusal(f"git {words[0]}: {said.error}")


def _remove_surplus(home: Path, line: str, others: list[int]) -> None:
    """Remove free workspaces beyond those that stay, those used longest ago."""
    for number in others[KEEP - 1 :]:
        lock = home / f"{line}-{number}.lock"
        with lock.open("r+b") as handle, contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(home / f"{line}-{number}", ignore_errors=True)


def _forget_our_code() -> None:
    """Make the next import find the checked-out code instead of what this process has read already."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("flows", "components"):
            del sys.modules[name]
