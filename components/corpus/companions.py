"""What may lie beside the media of a folder or bucket: human descriptions and a tagged seed library."""

import csv
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from components.corpus.collected import ANNOTATION_COLUMNS, csv_bytes
from components.corpus.demo import render_seed_library
from components.corpus.ledger import Ledger
from components.corpus.params import FolderCorpus, S3Corpus
from components.corpus.world import read_world
from components.stage import atomic_file

SEED_COLUMNS: Final = ("path", "group", "name")


@dataclass(frozen=True)
class SeedTags:
    """A user's seed_tags.csv: its rows, the files they name, and the rows refused by name."""

    rows: list[tuple[str, str, str]]
    files: dict[str, Path]  # name in the csv -> file, below the csv's own folder
    refused: list[dict[str, str]]  # rows of tables.QUARANTINE


def fingerprint(path: Path) -> str:
    """Return size and time of change: enough to see that a file may have changed."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def observe_companions(params: FolderCorpus | S3Corpus) -> dict[str, Any]:
    """Return the listing's part on the files that the section names.

    Raises:
        ValueError: such a file is missing or lacks a column.
    """
    found: dict[str, Any] = {"annotations": None, "seed_tags": None, "seed": []}
    if params.annotations is not None:
        found["annotations"] = fingerprint(_named(params.annotations, "annotations"))
    if params.seed_tags is not None:
        found["seed_tags"] = fingerprint(_named(params.seed_tags, "seed_tags"))
        files = read_seed_tags(Path(params.seed_tags)).files
        found["seed"] = [{"path": name, "fingerprint": fingerprint(path)} for name, path in sorted(files.items())]
    return found


def annotations_bytes(params: FolderCorpus | S3Corpus) -> bytes:
    """Return the user's annotations.csv as it is, or one with a header alone; ingest judges the rows."""
    if params.annotations is None:
        return csv_bytes(ANNOTATION_COLUMNS, [])
    return _named(params.annotations, "annotations").read_bytes()


def bring_seed_library(params: FolderCorpus | S3Corpus, folder: Path) -> tuple[bytes, list[dict[str, str]]]:
    """Copy the user's seed library into ``folder``, or render the demo's.

    Returns:
        seed_tags.csv with paths beside itself, and the rows refused.
    """
    if params.seed_tags is None:
        return render_seed_library(read_world(Path(__file__).with_name("world.yaml")), params, folder), []
    tags = read_seed_tags(_named(params.seed_tags, "seed_tags"))
    ledger = Ledger(folder)
    ledger.keep_only(tags.files)
    for name, source in sorted(tags.files.items()):
        key = fingerprint(source)
        if not ledger.has(name, key):
            with atomic_file(folder / name) as part:
                shutil.copyfile(source, part)
            ledger.add([(name, key)])
    kept = [(f"{folder.name}/{name}", group, tag) for name, group, tag in tags.rows if name in tags.files]
    return csv_bytes(SEED_COLUMNS, kept), tags.refused


def read_seed_tags(path: Path) -> SeedTags:
    """Read a seed_tags.csv; a row whose file is absent or outside the csv's folder is refused.

    Raises:
        ValueError: not UTF-8, or a column is missing.
    """
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        header = tuple(reader.fieldnames or ())
        for column in SEED_COLUMNS:
            if column not in header:
                raise ValueError(f"{path}: column '{column}' is missing; the header is {', '.join(SEED_COLUMNS)}")
        rows = [tuple(str(row[column] or "").strip() for column in SEED_COLUMNS) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a UTF-8 csv file: {error}") from None
    files: dict[str, Path] = {}
    refused: dict[str, dict[str, str]] = {}
    for name, _, _ in rows:
        if name in files or name in refused:
            continue
        problem = _problem(path.parent, name)
        if problem is None:
            files[name] = path.parent / name
        else:
            refused[name] = {
                "uri": name,
                "stage": "corpus",
                "reason": problem[0],
                "detail": f"{path.name}: {problem[1]}",
            }
    return SeedTags([(row[0], row[1], row[2]) for row in rows], files, list(refused.values()))


def _problem(folder: Path, name: str) -> tuple[str, str] | None:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or not name.isprintable() or pure.as_posix() != name:
        return "outside_root", f"the path {name!r} must lie below the file's own folder"
    target = folder / name
    if not target.is_file():
        return "missing_file", f"no such file: {name!r}"
    if not Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder)):
        return "outside_root", f"the link {name!r} leads out of the file's own folder"
    return None


def _named(path: str, key: str) -> Path:
    if not Path(path).is_file():
        raise ValueError(f"corpus.{key}: no such file: {path}; correct params.yaml or set it to null")
    return Path(path)
