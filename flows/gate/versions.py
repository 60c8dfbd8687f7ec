"""The files of a model version: its model and index, as safetensors, JSON, arrays and tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.errors import Refusal
from flows.release.releases import Release
from flows.release.unit import ArtifactsGone, readable, stored

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Everything that the two parts hold; any other file may carry code.
_SAFE = {".safetensors", ".json", ".npy", ".parquet", ".faiss"}


@dataclass(frozen=True)
class Version:
    """A release whose files are at hand.

    Attributes:
        release: as the ledger has it.
        model: the folder of its weights.
        index: the folder of its catalogue.
    """

    release: Release
    model: Path
    index: Path

    @property
    def name(self) -> str:
        """As people call it."""
        return f"version {self.release.version}"

    @property
    def facts(self) -> dict[str, str]:
        """What names it, for the provenance."""
        names = ("run_id", "commit", "digest", "model", "index", "manifest", "params", "code")
        return {"version": str(self.release.version)} | {name: str(getattr(self.release, name)) for name in names}


@contextmanager
def opened(client: "MlflowClient", release: Release) -> Iterator[Version]:
    """Yield a version with its files. Nothing of them is run: the code that it brings stays where it is.

    Raises:
        ArtifactsGone: files are missing, damaged, or not those that were registered.
        Refusal: a file that has no place there, such as a pickle.
    """
    number = release.version
    with stored(client, number) as folder:
        unit = readable(folder, number)
        if (unit.model, unit.index) != (release.model, release.index):
            raise ArtifactsGone(
                f"version {number}: its files are not those that were registered; restore the artifact store from its backup"
            )
        version = Version(release, folder / "artifacts/model", folder / "artifacts/index")
        for part in (version.model, version.index):
            for path in part.rglob("*"):
                if path.is_symlink() or (path.is_file() and path.suffix not in _SAFE):
                    raise Refusal(
                        f"version {number}: its folder '{part.name}' holds {path.name!r}, which may carry code, and is not "
                        "loaded; register the model again from its files"
                    )
        yield version
