"""What a workspace holds that DVC does not share: named after a push, so that nothing is lost in silence."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.workspace.workspace import LOCK_FILE, Workspace

if TYPE_CHECKING:
    from dvc.repo import Repo


@dataclass(frozen=True)
class Left:
    """A file or folder that DVC does not share, and why."""

    path: str
    mib: float
    why: str


def unshared(repo: "Repo", workspace: Workspace) -> Iterator[Left]:
    """Yield what is here and was not sent: outputs that DVC does not keep or does not know as they are, and the rest."""
    outputs = {Path(out.fs_path).relative_to(workspace.root): out for out in repo.index.outs}
    for path, out in sorted(outputs.items()):
        if not (workspace.root / path).exists():
            continue
        if not out.use_cache:
            yield _one(
                workspace, path, "dvc.yaml keeps it out of DVC's cache: the stage makes it again where it is missing"
            )
        elif any(state in ("modified", "new") for state in out.status().values()):
            yield _one(workspace, path, f"it is not what {LOCK_FILE} knows, which was sent: run `needledrop retrain`")
    ancestors = {parent for path in outputs for parent in path.parents}
    for folder in sorted(ancestors - {Path()}):
        for found in sorted((workspace.root / folder).iterdir()) if (workspace.root / folder).is_dir() else ():
            path = found.relative_to(workspace.root)
            if path not in outputs and path not in ancestors and path.name != ".gitignore":
                yield _one(workspace, path, "no output of dvc.yaml: work in progress, made again when needed")


def _one(workspace: Workspace, path: Path, why: str) -> Left:
    return Left(str(path), _mib(workspace.root / path), why)


def _mib(path: Path) -> float:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return round(sum(one.stat().st_size for one in files) / 2**20, 1)
