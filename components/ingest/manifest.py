"""Rows of the manifest: stable ids for clips, videos, tracks and artists."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.ingest.examine import Finding
from components.ingest.history import place
from components.ingest.params import Splits
from components.ingest.splits import linked


def clip_id(found: Finding) -> str:
    """Return an id that depends on the file's bytes and on the part that is used, nothing else."""
    bounds = f"{round(found.start_s * 1000)}:{round(found.end_s * 1000)}"
    return hashlib.sha256(f"{found.sha256}:{bounds}".encode()).hexdigest()[:16]


def manifest_rows(
    files: Sequence[tuple[Mapping[str, Any], Finding]],
    same_sound: Iterable[tuple[int, int]],
    splits: Splits,
    told: Mapping[str, str],
    history: Iterable[dict[str, Any]],
) -> tuple[list[dict[str, Any]], dict[str, str], list[dict[str, Any]]]:
    """Make rows of `tables.MANIFEST` of inventory rows and what was found in their files.

    Returns:
        The rows; the reason by uri for files that have no split; and the rows of `tables.SPLITS` for the next run.

    What the inventory does not know is derived. A video is named by its file's stem, with the clip id
    added where two files share it. Files with the same sound are one track. An unknown artist is taken
    to have made this one video. ``told`` is the split that the descriptions give a video id.
    """
    pairs = list(same_sound)
    stems = Counter(Path(row["uri"]).stem for row, _ in files if row["video_id"] is None)
    named = {row["video_id"] for row, _ in files}
    ids = [clip_id(found) for _, found in files]
    track_ids = {i: f"sound-{min(ids[k] for k in group)}" for group in linked(len(files), pairs) for i in group}
    videos = []
    for i, (row, _) in enumerate(files):
        stem = Path(row["uri"]).stem
        unique = stem if stems[stem] == 1 and stem not in named else f"{stem}-{ids[i]}"
        videos.append(row["video_id"] if row["video_id"] is not None else unique)
    known = [
        {**row, "sha256": found.sha256, "clip_id": ids[i], "video": videos[i]} for i, (row, found) in enumerate(files)
    ]
    placed, refused, kept = place(known, pairs, splits, [told.get(video_id) for video_id in videos], history)
    rows = []
    for i, split in enumerate(placed):
        if split is None:
            continue
        row, found = files[i]
        video_id = videos[i]
        rows.append(
            {
                "clip_id": ids[i],
                "video_id": video_id,
                "track_id": row["track_id"] if row["track_id"] is not None else track_ids[i],
                "artist_id": row["artist_id"] if row["artist_id"] is not None else f"unknown-{video_id}",
                "split": split,
                "uri": row["uri"],
                "sha256": found.sha256,
                "bytes": found.size,
                **{key: getattr(found, key) for key in _FOUND},
                **{key: row[key] for key in ("title", "artist", "licence", "source")},
            }
        )
    return rows, {files[i][0]["uri"]: why for i, why in refused.items()}, kept


_FOUND = (
    *("container", "video_codec", "audio_codec", "width", "height", "duration_s", "fps", "sample_rate_hz", "channels"),
    *("start_s", "end_s"),
)
