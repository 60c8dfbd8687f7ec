"""The files of a release, verified against the ledger's digests before any of their code runs.

Reading every byte is done once. What was read is remembered in the workspace by each file's size, times and inode: the
system itself sets the time of a change, so a byte that is changed behind a kept size and date is seen. The files of a
store that is no folder here are fetched once, and the copy is treated the same way.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.stage import atomic_folder, write_json
from flows.errors import Refusal
from flows.registry.pickles import refuse_pickles
from flows.release.table import Release
from flows.release.unit import RESTORE, FilesDiffer, NotAFile, fetch, files_of, is_here, require_signed
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FILES: Final = "files"  # in the folder of a copy
_SETTLED_NS: Final = 2_000_000_000  # two changes within one tick of a file system's clock have the same time


@dataclass(frozen=True)
class Verified:
    """Files that are those of a release.

    Attributes:
        version: its number.
        folder: where they lie.
        marks: size, time of writing and of change in nanoseconds, and inode of each file, by its relative path.
    """

    version: int
    folder: Path
    marks: Mapping[str, list[int]]

    def require_unchanged(self) -> None:
        """Check that no file has changed since.

        Raises:
            FilesDiffer: one has, or is new or gone.
        """
        now = _marks(self.folder, self.version)
        changed = sorted(name for name in {*now, *self.marks} if now.get(name) != self.marks.get(name))
        if changed:
            raise FilesDiffer(f"version {self.version}: {changed[0]} changed while it was used; run it again")


def verify(client: "MlflowClient", workspace: Workspace, release: Release) -> Verified:
    """Return the files of a release; bytes that were verified before and have not changed are not read again.

    Raises:
        ArtifactsGone: files are missing.
        FilesDiffer: files are damaged, others, or more than were registered.
        MismatchedPair: the index was made with another model.
        Unreachable: the artifact store does not answer.
        Refusal: a pickle is among them.
    """
    known = workspace.verified / f"{release.files}.json"
    if is_here(client, release.version):
        return _verified(fetch(client, release.version, workspace.verified), release, known)
    copy = workspace.verified / release.files
    old = copy.is_dir()
    while True:
        if not copy.is_dir():
            with atomic_folder(copy) as part:
                fetch(client, release.version, part).replace(part / _FILES)
        try:
            return _verified(copy / _FILES, release, known)
        except Refusal:
            shutil.rmtree(copy)
            if not old:
                raise
            old = False  # a copy that was damaged here says nothing about the store


def forget(workspace: Workspace, kept: set[str]) -> None:
    """Remove what is known, and copied, of other releases than those whose digests of all files are `kept`."""
    for path in workspace.verified.glob("[0-9a-f]*"):
        if path.name.removesuffix(".json") not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _verified(folder: Path, release: Release, known: Path) -> Verified:
    marks = _marks(folder, release.version)
    try:
        remembered = json.loads(known.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        remembered = None
    found = Verified(release.version, folder, marks)
    if remembered == marks:
        return found
    refuse_pickles(folder)
    require_signed(folder, release)
    found.require_unchanged()
    if time.time_ns() - max(changed for _, _, changed, _ in marks.values()) > _SETTLED_NS:
        write_json(known, marks)
    return found


def _marks(folder: Path, version: int) -> dict[str, list[int]]:
    try:
        found = files_of(folder)
    except NotAFile as error:
        raise FilesDiffer(f"version {version}: {error}; {RESTORE}") from None
    return {name: [one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino] for name, one in found.items()}
