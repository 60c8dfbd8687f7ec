"""The listing: what a folder or a bucket holds now. The flow keeps it, the stage reads nothing else.

A DVC stage is skipped while its dependencies are unchanged, so a change in somebody's folder must
show as a change of a file: this one.
"""

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, assert_never

from components.corpus.params import CorpusParams, DemoCorpus, FolderCorpus, S3Corpus
from components.stage import write_json

Refusal = dict[str, str]  # path, reason, detail


def observe(params: CorpusParams) -> bool:
    """Bring the listing that ``corpus.source`` names up to date; tell whether it changed.

    Nothing is written where nothing changed, and nothing at all for the demo, whose source is a
    committed file.

    Raises:
        ValueError: the folder, the bucket or a file named in the section is not there.
    """
    match params:
        case DemoCorpus():
            return False
        case FolderCorpus():
            from components.corpus.companions import observe_companions

            named = [path for path in (params.annotations, params.seed_tags) if path is not None]
            listing = {**list_folder(Path(params.root), named), **observe_companions(params)}
        case S3Corpus():
            from components.corpus.bucket import list_bucket
            from components.corpus.companions import observe_companions

            listing = {**list_bucket(params), **observe_companions(params)}
        case _:
            assert_never(params)
    source = Path(params.source)
    try:
        if json.loads(source.read_text(encoding="utf-8")) == listing:
            return False
    except (OSError, ValueError):
        pass  # absent or damaged: write it anew
    write_json(source, listing)
    return True


def list_folder(root: Path, apart: Iterable[str | Path] = ()) -> dict[str, Any]:
    """List every regular file below ``root``, in order of its path; nothing is opened.

    Args:
        root: the folder; may itself be a link.
        apart: files that are not media of this corpus (its csv files).

    Returns:
        kind, root, ``files`` (path from the root, bytes, fingerprint) and ``refused`` (path, reason,
        detail): names that are not UTF-8, links that break, circle or leave the root, and the like.

    Raises:
        ValueError: there is no such folder, or nothing in it.
    """
    if not root.is_dir():
        raise ValueError(f"corpus.root: no such folder: {root}")
    base = os.path.realpath(root)
    skip = {os.path.realpath(path) for path in apart}
    files: list[dict[str, Any]] = []
    refused: list[Refusal] = []
    for found in _walk(base, ""):
        if "reason" in found:
            refused.append(found)
        elif os.path.realpath(os.path.join(base, found["path"])) not in skip:  # noqa: PTH118
            files.append(found)
    if not files and not refused:
        raise ValueError(f"corpus.root: no files in {root}; put media there or name another folder")
    return {
        "kind": "folder",
        "root": str(root),
        "files": sorted(files, key=lambda entry: entry["path"]),
        "refused": sorted(refused, key=lambda entry: (entry["path"], entry["reason"])),
    }


def _walk(base: str, below: str) -> Iterator[dict[str, Any]]:
    try:
        entries = sorted(os.scandir(os.path.join(base, below)), key=lambda entry: entry.name)  # noqa: PTH118
    except OSError as error:
        yield _refuse(below or ".", "unreadable", f"the folder cannot be read: {error.strerror}")
        return
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            yield _refuse(path, "undecodable_name", f"the name is not UTF-8: {os.fsencode(entry.name)!r}; rename it")
            continue
        try:
            yield from _entry(base, path, entry)
        except FileNotFoundError:
            continue  # removed while we looked
        except OSError as error:
            yield _refuse(path, "unreadable", f"its entry cannot be read: {error.strerror}")


def _entry(base: str, path: str, entry: "os.DirEntry[str]") -> Iterator[dict[str, Any]]:
    if entry.is_symlink():
        try:
            target = os.path.realpath(entry.path, strict=True)
        except OSError as error:
            circle = error.errno == errno.ELOOP
            yield _refuse(path, "broken_link", "the link leads back to itself" if circle else "the link leads nowhere")
            return
        if os.path.commonpath([base, target]) != base:
            yield _refuse(path, "outside_root", "the link leads out of the corpus folder; nothing there is read")
            return
        if os.path.isdir(target):  # noqa: PTH112
            yield _refuse(
                path, "linked_folder", "a link to a folder of this corpus; its files are listed where they lie"
            )
            return
    elif entry.is_dir():
        yield from _walk(base, path)
        return
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        yield _refuse(path, "not_a_file", "neither a file nor a folder (a pipe, socket or device)")
        return
    yield {"path": path, "bytes": status.st_size, "fingerprint": f"{status.st_size}-{status.st_mtime_ns}"}


def _refuse(path: str, reason: str, detail: str) -> Refusal:
    # A lone surrogate stands for a byte that is not UTF-8; JSON and Parquet cannot hold it.
    return {"path": os.fsencode(path).decode("utf-8", "backslashreplace"), "reason": reason, "detail": detail}
