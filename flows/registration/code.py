"""The code that a version brings: the components with their data files, what MLflow runs, and what it asks pip for."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Final

from components.code import code_digest, tree_digest
from components.stage import write_json
from flows.errors import Refusal
from flows.workspace.workspace import Workspace

MODEL_FILE: Final = Path(__file__).with_name("pyfunc_model.py")
"""What MLflow runs when it loads a version."""

# What pyfunc_model.py and the components it bundles import.
_PACKAGES: Final = (
    "av", "faiss-cpu", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "PyYAML", "safetensors", "torch", "tqdm",
)  # fmt: skip


def requirements() -> list[str]:
    """Return a version's lines for pip: packages as they are installed here, without the mark of a processor's build."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES]


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
        kept = {"files": read_as, "code": _parsed(workspace)}
        write_json(workspace.code, kept)
    return _sha256("\n".join([str(kept["code"]), *requirements()]))


def _parsed(workspace: Workspace) -> str:
    entry, root = f"{__package__}.{MODEL_FILE.stem}", MODEL_FILE.parents[2]
    try:
        model = code_digest(entry, without=["components"], packages=False, root=root)
        return _sha256(f"{tree_digest('components', workspace.root)} {model}")
    except ValueError as error:
        raise Refusal(str(error)) from None


def _sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
