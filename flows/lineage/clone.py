"""A clean clone of the code at a commit, with the data of that day beside it."""

import contextlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows.environment import redact
from flows.errors import Refusal


def clean_clone(repository: str, commit: str, folder: Path, prefix: str = "") -> Path:
    """Clone `repository` into `folder` at `commit`; return the folder of dvc.yaml in it.

    Args:
        repository: path or address.
        commit: hexadecimal digits, as recorded.
        folder: does not exist yet.
        prefix: where in the repository the workspace lies.

    Raises:
        Refusal: it cannot be cloned, or does not have the commit.
    """
    status, said = _git("clone", "--quiet", "--no-checkout", "--", repository, str(folder))
    if status:
        raise Refusal(f"cannot clone {redact(repository)}: {_last(said, repository)}; name another with --from")
    status, _ = _git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    if status:  # a server gives what branches lead to, unless it is asked for more
        _git("-C", str(folder), "fetch", "--quiet", "origin", commit)
        status, _ = _git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    if status:
        raise Refusal(f"{redact(repository)} does not have commit {commit[:12]}; name one that has it with --from REPO")
    root = folder / prefix
    if not (root / "dvc.yaml").is_file():
        raise Refusal(f"commit {commit[:12]} of {redact(repository)} has no {prefix}dvc.yaml; it is of another project")
    return root


def repository_of(root: Path) -> tuple[str, str]:
    """Return the repository that holds a workspace, and where in it the workspace lies.

    Raises:
        Refusal: it is in none.
    """
    status, top = _git("-C", str(root), "rev-parse", "--show-toplevel")
    if status:
        raise Refusal(f"{root} is in no git repository; name one with --from REPO")
    return top.strip(), _git("-C", str(root), "rev-parse", "--show-prefix")[1].strip()


def share_cache(workspace: Path, clone: Path) -> bool:
    """Let a clone read the workspace's DVC cache and know its remotes; return whether there is a remote.

    Relative addresses are made absolute; the clone's settings stay in its own, private folder.
    """
    from dvc.repo import Repo

    with Repo(str(workspace)) as repo:
        cache, core = repo.cache.local_cache_dir, repo.config["core"].get("remote")
        remotes = {name: dict(remote) for name, remote in repo.config["remote"].items()}
    with Repo(str(clone)) as repo, repo.config.edit("local") as config:
        config["cache"] = {"dir": cache, "type": ["reflink", "hardlink", "copy"]}
        config["remote"] = remotes
        if core:
            config["core"] = {"remote": core}
    return bool(remotes)


def restore(clone: Path, paths: Iterable[str], pull: bool) -> list[str]:
    """Bring outputs from the cache, and from the remote where `pull` says so; return those still missing.

    Args:
        clone: has a dvc.lock.
        paths: outputs, from the clone's root.
        pull: ask the remote for what the cache lacks.

    Raises:
        Refusal: DVC cannot read the clone.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    wanted = list(paths)
    with contextlib.chdir(clone), Repo(str(clone)) as repo:
        for bring in (repo.checkout, *((repo.pull,) if pull else ())):
            missing = [path for path in wanted if not _there(repo, clone / path)]
            if missing:
                with contextlib.suppress(DvcException, OSError):  # what it did not bring is missing, and said below
                    bring(targets=missing)
    with Repo(str(clone)) as repo:
        return [path for path in wanted if not _there(repo, clone / path)]


def _there(repo: Any, path: Path) -> bool:
    """Tell whether an output is there whole, as dvc.lock knows it."""
    if not path.exists():
        return False
    (out,) = repo.find_outs_by_path(str(path))
    return not out.status()


def _git(*words: str) -> tuple[int, str]:
    """Run git; it asks nobody for a password."""
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, check=False, env=os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    )
    return done.returncode, done.stdout or done.stderr


def _last(said: str, repository: str) -> str:
    lines = [line for line in said.replace(repository, redact(repository)).splitlines() if line.strip()]
    return lines[-1].removeprefix("fatal: ") if lines else "git gave no reason"
