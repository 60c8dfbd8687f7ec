"""A clean clone of the code at a commit, with the data of that day beside it."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows.environment import redact
from flows.errors import Refusal
from flows.workspace.git import Said, git


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
    made = git("clone", "--quiet", "--no-checkout", "--", repository, str(folder))
    if not made.ok:
        raise Refusal(f"cannot clone {redact(repository)}: {_words(made, repository)}; name another with --from")
    checkout = ("checkout", "--quiet", "--detach", commit)
    there = git(*checkout, at=folder).ok
    if not there:  # a server gives what branches lead to, unless it is asked for more
        git("fetch", "--quiet", "origin", commit, at=folder)
        there = git(*checkout, at=folder).ok
    if not there:
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
    top = git("rev-parse", "--show-toplevel", at=root)
    if not top.ok:
        raise Refusal(f"{root} is in no git repository; name one with --from REPO")
    return top.out, git("rev-parse", "--show-prefix", at=root).out


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


def _words(said: Said, repository: str) -> str:
    return said.error.replace(repository, redact(repository)).removeprefix("fatal: ")
