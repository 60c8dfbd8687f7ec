"""What a stage's process reads besides data: its code, and its sections of params.yaml; an edit meanwhile is an error.

DVC notes both when a stage ends, and kept rows and checkpoints are bound to the code as it lies on disk. An edit while a
stage runs would be noted as what ran. So nothing is published after one, and the stage fails.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from components.settings import ParamsError, differences, read_params, sections_read

Marks = dict[str, tuple[int, int, int]]

_FOLDER: Final = Path(__file__).resolve().parent
_AGAIN: Final = "was edited while this stage ran, and what ran is not what would be noted; run it again"
_watched: list[Marks] = []


class Edited(ValueError):
    """An input of a stage was edited while it ran; the message names it."""


def marks(*paths: Path) -> Marks:
    """Return size, time of writing in nanoseconds and inode of every file at or below the paths, by its path.

    Hidden files and bytecode, which editors and Python leave there, are passed over.
    """
    found: Marks = {}
    for path in paths:
        try:
            about = path.stat()
            if stat.S_ISDIR(about.st_mode):
                _add_below(str(path), found)
            else:
                found[str(path)] = _mark(about)
        except FileNotFoundError:  # it counts as gone
            continue
    return found


def _add_below(folder: str, found: Marks) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__pycache__")):
                continue
            if entry.is_dir():
                _add_below(entry.path, found)
            else:
                found[entry.path] = _mark(entry.stat())


def _mark(about: os.stat_result) -> tuple[int, int, int]:
    return about.st_size, about.st_mtime_ns, about.st_ino


def changed(before: Marks, now: Marks) -> list[str]:
    """Return the files that were written, added or removed in between, in order."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


_AT_START: Final = marks(_FOLDER)  # hardly any code is loaded yet


@contextmanager
def watched() -> Iterator[None]:
    """Run a stage inside: until it ends, `require_same_code` looks, and at its end code and params are still what was read.

    Raises:
        Edited: they are not.
    """
    sections_read.clear()
    _watched.append(_AT_START)
    try:
        yield
        require_same_code()
        _require_same_params()
    finally:
        _watched.pop()


def require_same_code() -> None:
    """Look, in a stage's process, whether its code is still what lay there when it started. Call it before publishing.

    Raises:
        Edited: a file of it was edited; it is named.
    """
    if not _watched:
        return
    loaded = {name.split(".")[1] for name in list(sys.modules) if name.startswith("components.")}
    tops = {
        top
        for top in {*(path.name for path in _FOLDER.iterdir()), *map(_top, _watched[-1])}
        if _may_be_read(top, loaded)
    }
    before = {name: mark for name, mark in _watched[-1].items() if _top(name) in tops}
    if edited := changed(before, marks(*(_FOLDER / top for top in tops))):
        raise Edited(f"{os.path.relpath(edited[0], _FOLDER.parent)} {_AGAIN}")


def _top(path: str) -> str:
    """Return what lies on top of components/ and is or holds a file."""
    return path[len(str(_FOLDER)) + 1 :].partition(os.sep)[0]


@cache
def _is_folder(top: str) -> bool:
    return (_FOLDER / top).is_dir()


def _may_be_read(top: str, loaded: set[str]) -> bool:
    """Tell whether a stage with these modules may read it; of data files on top nobody can see it, so they all count."""
    if top.endswith(".py") or _is_folder(top):
        return top.removesuffix(".py") in loaded
    return not top.startswith(".")


def _require_same_params() -> None:
    for (path, section), value in sections_read.items():
        try:
            now = read_params(path).get(section)
        except ParamsError as error:
            raise Edited(f"{path.name} {_AGAIN} ({error})") from None
        if edits := differences(section, value, now):
            raise Edited(f"{path.name} {_AGAIN} ({'; '.join(edits)})")
