"""What a version asks pip for, against what is installed here."""

import platform
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from flows.errors import Refusal

_REQUIREMENTS: Final = "requirements.txt"
_UNREADABLE: Final = "cannot be read here"
_PYTHON: Final = re.compile(r"^python: *['\"]?(\d+\.\d+)", re.M)  # in what MLflow writes of the environment


def check_needs(folder: Path, number: int) -> str:
    """Return what a version needs in another form than it is here, or nothing.

    Args:
        folder: the version's verified files.
        number: the version's.

    Raises:
        Refusal: a package is missing; the message has the command that installs it.
    """
    missing: list[str] = []
    other: dict[str, str] = {}
    for line in _lines(folder / _REQUIREMENTS):
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            other[line] = _UNREADABLE
            continue
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            here = version(wanted.name)
        except PackageNotFoundError:
            missing.append(line)
            continue
        if not wanted.specifier.contains(here, prereleases=True):
            other[line] = f"here {here}"
    if missing:
        raise Refusal(f"version {number} needs {', '.join(missing)}, not installed here; run `{_install(missing)}`")
    said = []
    if other:
        named = ", ".join(f"{line} ({found})" for line, found in other.items())
        lines = [line for line, found in other.items() if found != _UNREADABLE]
        said.append(
            f"version {number} was made with {named}" + (f"; to have the same: `{_install(lines)}`" if lines else "")
        )
    if (made := _made_with(folder)) not in (None, _minor()):
        said.append(f"version {number} was made with Python {made}, this is {_minor()}")
    return "; ".join(said)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = (line.partition(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def _install(lines: list[str]) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *lines])


def _made_with(folder: Path) -> str | None:
    path = folder / "python_env.yaml"
    found = _PYTHON.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1] if found else None


def _minor() -> str:
    return ".".join(platform.python_version_tuple()[:2])
