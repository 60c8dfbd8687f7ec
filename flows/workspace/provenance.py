"""What a result came from, beside its files: the commit of the code and the installed packages."""

from importlib.metadata import distributions
from pathlib import Path

from flows.workspace.git import git
from flows.workspace.workspace import LOCK_FILE


def git_state(root: Path) -> tuple[str, str]:
    """The commit of the code, and whether files differ from it. `dvc.lock` is a result, so it does not count.

    Where git cannot tell, they are `none` and `unknown`, and `commit_problem` says why.
    """
    if commit_problem(root):
        return "none", "unknown"
    commit = git("rev-parse", "HEAD", at=root)
    changed = git("status", "--porcelain", "--", ".", f":(exclude){LOCK_FILE}", at=root)
    if not changed.ok:
        return commit.out, "unknown"
    return commit.out, "true" if changed.out else "false"


def commit_problem(root: Path) -> str | None:
    """Why git cannot tell the commit of the code in `root`, and what to do; None where it can."""
    commit = git("rev-parse", "HEAD", at=root)
    if "safe.directory" in commit.error:
        return f"git distrusts {root}, which belongs to another user: `git config --global --add safe.directory {root}`"
    if not commit.ok:
        return commit.error
    # A folder within somebody else's repository, such as one around a home folder: its commit says nothing about ours.
    if not git("ls-files", "--error-unmatch", "dvc.yaml", at=root).ok:
        return (
            f"the git repository around {root} does not hold its dvc.yaml: commit the project, or work in a clone of it"
        )
    return None


def environment_text() -> str:
    """Every installed package with its version, as pip would list them."""
    known = [item.metadata for item in distributions()]  # a file is read and parsed whenever this is asked for
    found = {f"{about['Name']}=={about['Version']}" for about in known if about["Name"]}
    return "\n".join(sorted(found, key=str.lower)) + "\n"
