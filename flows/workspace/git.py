"""git, asked by its own command: with nobody there to answer it, and of the repository that is meant.

A hook, an IDE or another tool may leave variables such as GIT_DIR behind, which would point every
question at another repository; none of them is handed on.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flows.environment import GIT_LOCAL

_MISSING = 127  # what a shell says of a command that is not there
_PASSWORD = re.compile("//[^/@ ]*@")


@dataclass(frozen=True)
class Said:
    """What git answered.

    Attributes:
        status: its exit status; 127 where there is no git on this machine.
        out: its standard output, without white space at both ends.
        error: the last line of its standard error, without a password that an address may hold.
    """

    status: int
    out: str
    error: str

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked for."""
        return self.status == 0


def git(*words: str, at: Path | None = None) -> Said:
    """Run `git WORDS`, in folder `at` where one is given."""
    where = ["-C", str(at)] if at is not None else []
    try:
        done = subprocess.run(
            ["git", *where, *words], env=_environment(), capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        return Said(_MISSING, "", "git is not installed on this machine, or not on PATH")
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return Said(done.returncode, done.stdout.strip(), _PASSWORD.sub("//", lines[-1]))


def _environment() -> dict[str, str]:
    local = _local_variables()
    return {name: value for name, value in os.environ.items() if name not in local} | {"GIT_TERMINAL_PROMPT": "0"}


@lru_cache(maxsize=1)
def _local_variables() -> frozenset[str]:
    """The variables that tie git to one repository, by git's own list."""
    try:
        done = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return frozenset(GIT_LOCAL)
    return frozenset(done.stdout.split()) | frozenset(GIT_LOCAL)
