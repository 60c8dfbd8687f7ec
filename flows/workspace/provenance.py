"""What a result came from, beside its files: the commit of the code and the installed packages."""

import subprocess
from importlib.metadata import distributions
from pathlib import Path

from flows.workspace.workspace import LOCK_FILE


def git_state(root: Path) -> tuple[str, str]:
    """The commit of the code, and whether files differ from it. `dvc.lock` is a result, so it does not count."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return "none", "unknown"
    return commit, "true" if git("status", "--porcelain", "--", ".", f":(exclude){LOCK_FILE}") else "false"


def environment_text() -> str:
    """Every installed package with its version, as pip would list them."""
    known = [item.metadata for item in distributions()]  # a file is read and parsed whenever this is asked for
    found = {f"{about['Name']}=={about['Version']}" for about in known if about["Name"]}
    return "\n".join(sorted(found, key=str.lower)) + "\n"
