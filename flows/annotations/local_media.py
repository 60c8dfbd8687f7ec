"""Which local files may be the video of an id, as downloaders name them."""

import os
from collections.abc import Collection
from pathlib import Path

_SIDE_FILES = {
    ".json",
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".vtt",
    ".srt",
    ".ass",
    ".txt",
    ".description",
    ".part",
    ".ytdl",
}


def find_media(folder: Path, ids: Collection[str], apart: Path) -> dict[str, list[Path]]:
    """Return for each id the files below ``folder`` whose name holds it, the likeliest first.

    ``<id>.mp4`` comes before ``title [<id>].mp4``, that before ``title-<id>.mp4``, and that before an id
    elsewhere in the name between other characters than letters and digits. Case counts.

    Args:
        folder: searched with all folders in it; links to folders are not followed.
        ids: what to look for.
        apart: a folder that is not searched, because it holds what was cut before.

    Returns:
        Only ids with a file.
    """
    known, lengths = set(ids), sorted({len(name) for name in ids})
    found: dict[str, list[tuple[int, str, Path]]] = {}
    skipped = apart.resolve()
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(where, name).resolve() != skipped)
        for name in names:
            path = Path(where, name)
            if path.suffix.lower() in _SIDE_FILES or name.startswith("."):
                continue
            for video_id, place in _held(path.stem, known, lengths).items():
                found.setdefault(video_id, []).append((place, path.as_posix(), path))
    return {video_id: [path for *_, path in sorted(paths)] for video_id, paths in found.items()}


def _held(stem: str, known: set[str], lengths: list[int]) -> dict[str, int]:
    """Return the ids in a file's stem and how good the place of each is, 0 best."""
    held: dict[str, int] = {}
    for length in lengths:
        for start in range(len(stem) - length + 1):
            name = stem[start : start + length]
            if name in known:
                before, after = stem[:start], stem[start + length :]
                place = _place(before, after)
                if place is not None:
                    held[name] = min(place, held.get(name, place))
    return held


def _place(before: str, after: str) -> int | None:
    if not before and not after:
        return 0
    if before.endswith("[") and after.startswith("]"):
        return 1
    if before.endswith("-") and not after:
        return 2
    return None if before[-1:].isalnum() or after[:1].isalnum() else 3
