"""The code that a version brings: the components with their data files, what MLflow runs, and what it asks pip for."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Final

from components.code import DISTRIBUTIONS, code_digest, imported, tree_digest
from components.stage import write_json
from flows.errors import Refusal
from flows.workspace.workspace import Workspace

MODEL_FILE: Final = Path(__file__).with_name("pyfunc_model.py")
"""What MLflow runs when it loads a version."""

_ENTRY: Final = f"{__package__}.{MODEL_FILE.stem}"
_ROOT: Final = MODEL_FILE.parents[2]
_EXTRACTORS: Final = {"embedded": "components.features.embedded", "hf": "components.features.hf"}


def requirements(kind: str) -> list[str]:
    """Return a version's lines for pip: what its code imports, as it is installed here.

    Args:
        kind: of its extractors; what only others import is left out.
    """
    without = [module for other, module in _EXTRACTORS.items() if other != kind]
    return _lines(imported(_ENTRY, without=without, root=_ROOT))


def _lines(names: Iterable[str]) -> list[str]:
    """Return the lines for packages that are imported by these names, without the mark of a processor's build.

    One that is not installed was not needed to make the version: it is left out.
    """
    return sorted({line for name in names if (line := _line(name))}, key=str.lower)


def _line(name: str) -> str | None:
    try:
        return _pinned(DISTRIBUTIONS.get(name, name))
    except PackageNotFoundError:
        others = _installed_as().get(name, [])  # it is installed by another name, or not at all
    return _pinned(others[0]) if others else None


def _pinned(distribution: str) -> str:
    return f"{distribution}=={version(distribution).partition('+')[0]}"


@cache
def _installed_as() -> Mapping[str, list[str]]:
    return packages_distributions()


def code_of(workspace: Workspace) -> str:
    """Return the digest of what a version made now would bring; words in the code do not count.

    Raises:
        Refusal: a file cannot be parsed; it is named.
    """
    # Parsing takes longer than all else here: its result holds for as long as the files' bytes stay as they are.
    components = workspace.root / "components"
    files = sorted(path for path in components.rglob("*") if path.is_file() and path.suffix != ".pyc")
    read = [f"{path.relative_to(workspace.root)} {_sha256(path.read_bytes())}" for path in files]
    read_as = _sha256("\n".join([*read, _sha256(MODEL_FILE.read_bytes())]))
    try:
        kept = json.loads(workspace.code.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = None
    if not isinstance(kept, dict) or kept.get("files") != read_as:
        kept = {"files": read_as, "code": _parsed(workspace), "packages": imported(_ENTRY, root=_ROOT)}
        write_json(workspace.code, kept)
    return _sha256("\n".join([str(kept["code"]), *_lines(kept["packages"])]))


def _parsed(workspace: Workspace) -> str:
    try:
        model = code_digest(_ENTRY, without=["components"], packages=False, root=MODEL_FILE.parents[2])
        return _sha256(f"{tree_digest('components', workspace.root)} {model}")
    except ValueError as error:
        raise Refusal(str(error)) from None


def _sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
