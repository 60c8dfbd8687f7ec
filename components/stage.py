"""What the ``__main__`` of every stage shares: arguments, atomic outputs, errors, progress."""

import argparse
import ctypes
import errno
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from components import inputs
from components.settings import ParamsError

EXIT_ERROR = 1
EXIT_USAGE = 2

T = TypeVar("T")
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_cleared: set[Path] = set()  # folders in which this process has looked for leftovers


def arguments(doc: str | None, *names: str, choices: dict[str, tuple[str, ...]] | None = None) -> argparse.Namespace:
    """Parse ``--name`` for each of ``names``: required paths, or words where ``choices`` says so."""
    parser = argparse.ArgumentParser(description=doc)
    for name in names:
        if choices and name in choices:
            parser.add_argument(f"--{name}", required=True, choices=choices[name])
        else:
            parser.add_argument(f"--{name}", required=True, type=Path, metavar="PATH")
    return parser.parse_args()


def run(main: Callable[[], None]) -> None:
    """Run a stage: a user's mistake becomes one line and an exit code, never a traceback.

    An edit of its code or params while it runs is an error at its end; see ``components.inputs``.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("components").setLevel(logging.INFO)  # our own lines, not those of libraries
    try:
        with inputs.watched():
            main()
    except ParamsError as error:
        sys.exit(_say(error, EXIT_USAGE))
    except ValueError as error:
        sys.exit(_say(error, EXIT_ERROR))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT):
            raise
        hint = (
            "; free some space and run again, finished rows are kept"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else ""
        )
        sys.exit(_say(f"{error.strerror}: {error.filename or 'output'}{hint}", EXIT_ERROR))


def _say(error: object, code: int) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return code


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it over ``path`` when the block succeeds.

    A reader sees the old file or the new one, never half of one, also after a kill or a full disk.
    """
    part = _part(path)
    try:
        yield part
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        inputs.require_same_code()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it takes ``path``'s place when the block succeeds.

    A reader sees the old folder or the new one, whole, also after a kill: the two change places in one step. Where
    the file system cannot do that, the old one lies aside for a moment; ``recover_folder`` brings it back.
    """
    recover_folder(path)
    part = _part(path)
    _remove(part)
    part.mkdir()
    try:
        yield part
        for written in (*part.rglob("*"), part):
            _sync(written)
        inputs.require_same_code()
        _publish(part, path)
        _sync(path.parent)
    finally:
        _remove(part)


def own_file(path: Path) -> None:
    """Give a file bytes of its own. Call it before writing into one in place.

    A workspace that was made from another shares files with it under two names.
    """
    if path.exists() and path.stat().st_nlink > 1:
        with atomic_file(path) as part:
            shutil.copy2(path, part)


def recover_folder(path: Path) -> None:
    """Bring back a folder that lies aside because its writer was killed just then. Call it before reading one's own."""
    aside = _aside(path)
    if os.path.lexists(aside):
        if os.path.lexists(path):  # the new one had taken its place
            _remove(aside)
        else:
            aside.replace(path)


def _publish(part: Path, path: Path) -> None:
    """Let ``part`` take the place of ``path``."""
    if not os.path.lexists(path):
        part.replace(path)
    elif not _exchange(part, path):
        aside = _aside(path)
        path.replace(aside)
        try:
            part.replace(path)
        except BaseException:
            aside.replace(path)
            raise
        _remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(one.absolute()), _HERE, os.fsencode(other.absolute()), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.aside")


def _sync(path: Path) -> None:
    """Put a file or the names in a folder onto the disk."""
    if not path.is_symlink():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove a folder or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Return the temporary path beside ``path``; what killed processes have left in that folder is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _cleared:  # once for each folder: it may hold very many files
        _cleared.add(path.parent)
        for left in path.parent.glob(".*.part"):
            process = left.name.removesuffix(".part").rpartition(".")[2]
            if process.isdecimal() and not _lives(int(process)):
                _remove(left)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as stable, readable JSON (sorted keys, one trailing newline), atomically."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def progress(rows: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Show a bar on a terminal and a plain line about every ten seconds elsewhere."""
    from tqdm import tqdm

    live = sys.stderr.isatty()
    bar = tqdm(
        rows,
        desc=label,
        total=total,
        file=sys.stderr if live else sys.stdout,
        mininterval=0.2 if live else 10.0,
        ascii=not live,
        leave=live,
        ncols=None if live else 80,
    )
    yield from bar
