"""What a result came from, beside its files: the commit of the code and the installed packages."""

from importlib.metadata import distributions
from pathlib import Path

from flows.workspace.git import git
from flows.workspace.workspace import LOCK_FILE


def git_state(root: Path) -> tuple[str, str]:
    """The commit of the code, and whether files differ from it. `dvc.lock` is a result, so it does not count.

    Without a repository, or without git, they are `none` and `unknown`; `needledrop doctor` says why.
    """
    commit = git("rev-parse", "HEAD", at=root)
    if not commit.ok:
        return "none", "unknown"
    changed = git("status", "--porcelain", "--", ".", f":(exclude){LOCK_FILE}", at=root)
    if not changed.ok:
        return commit.out, "unknown"
    return commit.out, "true" if changed.out else "false"


def environment_text() -> str:
    """Every installed package with its version, as pip would list them."""
    known = [item.metadata for item in distributions()]  # a file is read and parsed whenever this is asked for
    found = {f"{about['Name']}=={about['Version']}" for about in known if about["Name"]}
    return "\n".join(sorted(found, key=str.lower)) + "\n"
