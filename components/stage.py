"""What the ``__main__`` of every stage shares: arguments, atomic outputs, errors, progress."""

import argparse
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

from components.settings import ParamsError

EXIT_ERROR = 1
EXIT_USAGE = 2

T = TypeVar("T")
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
    """Run a stage: a user's mistake becomes one line and an exit code, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("components").setLevel(logging.INFO)  # our own lines, not those of libraries
    try:
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
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it takes ``path``'s place on success."""
    part = _part(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _part(path: Path) -> Path:
    """Return the temporary path beside ``path``; what killed processes have left in that folder is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _cleared:  # once for each folder: it may hold very many files
        _cleared.add(path.parent)
        for left in path.parent.glob(".*.part"):
            process = left.name.removesuffix(".part").rpartition(".")[2]
            if process.isdecimal() and not _lives(int(process)):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
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
