"""The release unit: what the stored files of a model version are, by content, and that they belong together.

Only digests and the two facts that bind model and index are read here, never weights: a version that
another day's code wrote must still be one that can be rolled back to.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from flows.errors import Refusal
from flows.registry.hints import is_away
from flows.registry.pickles import refuse_pickles
from flows.registry.tracking import MODEL, Unreachable
from flows.release.releases import Release

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"  # as components.encoder.serialise has them, without torch
_WRITTEN_LATER = {"registered_model_meta", "__pycache__"}  # by MLflow and Python, when a version is loaded


class MismatchedPair(Refusal):
    """An index that was made with another model."""


class ArtifactsGone(Refusal):
    """What a version needs to answer is not there, or is not what was registered."""


class FilesDiffer(ArtifactsGone):
    """Files are there, and are not what was registered."""


class NotAFile(ValueError):
    """A link, a pipe or a device where a version has plain files."""


@dataclass(frozen=True)
class Unit:
    """Digests of one version's files; see `Release`."""

    model: str
    index: str
    catalogue: str
    specs: dict[str, str]
    files: str


def read_pair(model: Path, index: Path) -> tuple[str, dict[str, str]]:
    """Return the digest of a model and its extractor digests by modality.

    Args:
        model: folder with config.json and the weights.
        index: folder that the indexing stage wrote.

    Raises:
        MismatchedPair: the index records another model.
        ValueError, OSError, KeyError: a file is missing or damaged.
    """
    from components.indexing.catalogue import META  # brings numpy, which most commands do not need

    text = (model / _CONFIG).read_bytes()
    config = json.loads(text)
    digest = hashlib.sha256(text).hexdigest()
    if _file_digest(model / _WEIGHTS) != config["weights_sha256"]:
        raise ValueError(f"{_WEIGHTS} is not the one that {_CONFIG} speaks of")
    recorded = json.loads((index / META).read_text(encoding="utf-8"))["model"]
    if recorded != digest:
        raise MismatchedPair(
            f"the index was made with model {str(recorded)[:12]}, this model is {digest[:12]}: they are no pair; "
            "run `needledrop retrain`, which makes both"
        )
    return digest, {name: str(about["features"]) for name, about in config["modalities"].items()}


def read_unit(folder: Path) -> Unit:
    """Return the digests of a logged model's folder.

    Raises:
        MismatchedPair, ValueError, OSError, KeyError: as `read_pair`.
    """
    from components.indexing.catalogue import TABLE

    model, index = folder / "artifacts/model", folder / "artifacts/index"
    digest, specs = read_pair(model, index)
    return Unit(digest, folder_digest(index), _file_digest(index / TABLE), specs, folder_digest(folder))


def files_of(folder: Path) -> dict[str, os.stat_result]:
    """Return every file of a version by its relative path, in order; what loading writes is left out.

    Raises:
        NotAFile: a symbolic link or something else that is no plain file; it is named.
    """
    found: dict[PurePath, os.stat_result] = {}
    for place, folders, names in os.walk(folder):
        inside = PurePath(place).relative_to(folder)
        folders[:] = [name for name in folders if name not in _WRITTEN_LATER]
        for name in [*folders, *names]:
            about = (Path(place) / name).lstat()
            if name in _WRITTEN_LATER or (name in folders and stat.S_ISDIR(about.st_mode)):
                continue
            if not stat.S_ISREG(about.st_mode):
                what = "a symbolic link" if stat.S_ISLNK(about.st_mode) else "no plain file"
                raise NotAFile(f"{(inside / name).as_posix()} is {what}, which no version has")
            found[inside / name] = about
    return {path.as_posix(): found[path] for path in sorted(found)}


def folder_digest(folder: Path) -> str:
    """Return the sha256 over relative path and content of every file; what loading writes is left out.

    Raises:
        NotAFile: as `files_of`.
    """
    total = hashlib.sha256()
    for name in files_of(folder):
        total.update(f"{name}\0{_file_digest(folder / name)}\n".encode())
    return total.hexdigest()


@contextmanager
def stored(client: "MlflowClient", version: int) -> Iterator[Path]:
    """Yield a folder with the files of a model version: the store's own where it is local, else a copy.

    Raises:
        ArtifactsGone: the version or its files are not there, or cannot be read.
        Unreachable: the artifact store does not answer; what is stored there is not lost.
        Refusal: a pickle is among them.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = fetch(client, version, Path(scratch))
        refuse_pickles(folder)
        yield folder


def fetch(client: "MlflowClient", version: int, scratch: Path) -> Path:
    """Return the folder of a version's files: the store's own where it is local, else a copy somewhere in `scratch`.

    Raises:
        ArtifactsGone, Unreachable: as `stored`.
    """
    import mlflow

    with _named(version):
        uri, local = _place(client, version)
        # MLflow turns what a store says into its own errors for some stores only.
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=None if local else str(scratch)))


def is_here(client: "MlflowClient", version: int) -> bool:
    """Tell whether the files of a version lie in a folder that can be read in place.

    Raises:
        ArtifactsGone, Unreachable: as `stored`.
    """
    with _named(version):
        return _place(client, version)[1]


def _place(client: "MlflowClient", version: int) -> tuple[str, bool]:
    uri = client.get_model_version_download_uri(MODEL, str(version))
    return uri, uri.startswith("file:") or "://" not in uri


@contextmanager
def _named(version: int) -> Iterator[None]:
    """Turn errors of MLflow and of its store into ours, with the version's number."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        words = " ".join(str(error).split())
        if is_away(words):
            raise Unreachable(f"version {version}: the artifact store does not answer ({words[-200:]})") from error
        raise ArtifactsGone(f"version {version}: {words[:200]}; {RESTORE}") from error


def verify_stored(client: "MlflowClient", release: Release) -> None:
    """Check that the stored files of a release are there and are what was signed off.

    Raises:
        MismatchedPair: the index was made with another model.
        ArtifactsGone: files are missing, damaged or others.
    """
    with stored(client, release.version) as folder:
        require_signed(folder, release)


def require_signed(folder: Path, release: Release) -> None:
    """Check that a folder holds the files of a release, all of them and no others, byte by byte.

    Raises:
        MismatchedPair: the index was made with another model.
        ArtifactsGone: files are missing, damaged or others.
    """
    found = readable(folder, release.version)
    for name in ("model", "index", "catalogue", "specs", "files"):
        if getattr(found, name) != getattr(release, name):
            what = "logged files are" if name == "files" else f"{name} is"
            raise FilesDiffer(f"version {release.version}: its {what} not what was registered; {RESTORE}")


def readable(folder: Path, version: int) -> Unit:
    """Return the unit of a version's files.

    Raises:
        MismatchedPair, ArtifactsGone: with the version's number.
    """
    try:
        return read_unit(folder)
    except MismatchedPair as error:
        raise MismatchedPair(f"version {version}: {error}") from None
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise ArtifactsGone(f"version {version}: its artifacts are gone ({name} is missing); {RESTORE}") from None
    except (ValueError, TypeError, AttributeError, OSError, KeyError) as error:
        raise FilesDiffer(f"version {version}: its artifacts are damaged ({error}); {RESTORE}") from None


RESTORE: Final = "restore the artifact store from its backup, or retrain"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
