"""Which paths may be read: those that resolve to a place inside the corpus's own root."""

import os
from collections.abc import Iterable
from pathlib import Path

from components.containers import MediaError


def common_root(uris: Iterable[str]) -> Path:
    """Return the folder that holds every listed file, links resolved."""
    folders = [Path(uri).absolute().parent for uri in uris if _is_plain(uri)]
    return Path(os.path.commonpath(folders) if folders else os.curdir).resolve()


def inside(uri: str, root: Path) -> Path:
    """Return the absolute path of ``uri``.

    Raises:
        MediaError: unsafe_name (empty, a null character) or outside_root (``..``, a link that leads out).
    """
    if not uri or "\0" in uri:
        raise MediaError("unsafe_name", "the path is empty or has a null character")
    if not _is_plain(uri):
        raise MediaError("outside_root", "the path goes up with '..'")
    return contained(Path(uri).absolute(), root)


def contained(path: Path, root: Path) -> Path:
    """Return ``path`` if it resolves to a place inside ``root``.

    Raises:
        MediaError: outside_root, or unreadable where links form a loop.
    """
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise MediaError("unreadable", "the path's links lead nowhere") from None
    if not resolved.is_relative_to(root):
        raise MediaError("outside_root", "a link leads out of the corpus's root folder")
    return path


def _is_plain(uri: str) -> bool:
    return bool(uri) and "\0" not in uri and ".." not in Path(uri).parts
