"""Human descriptions of clips: ``video_id,start,end,text``, the columns of YouTube8M-MusicTextClips.

A fifth column, ``split`` (train, val or test; may be empty), keeps the split of a published set.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from components.ingest.rows import Row, RowError, clean_text, leads_out, read_csv, shown
from components.ingest.splits import SPLITS

COLUMNS: Final = ("video_id", "start", "end", "text")
_NUMBER: Final = re.compile(r"\d{1,9}(\.\d{0,9})?", re.ASCII)


def read_annotations(
    path: Path, clips: Iterable[Mapping[str, Any]], refused: Mapping[str, str], most_chars: int
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Match the rows of ``annotations.csv`` to clips: at most one a clip, the first.

    Args:
        path: the CSV file.
        clips: rows of the manifest.
        refused: video ids that have no clip, and why.
        most_chars: longest accepted text.

    Returns:
        Rows of `tables.ANNOTATIONS`, and rows of `tables.QUARANTINE` for everything else.

    Raises:
        ValueError: a column is missing.
    """
    by_video: dict[str, list[Mapping[str, Any]]] = {}
    for clip in sorted(clips, key=lambda clip: str(clip["clip_id"])):
        by_video.setdefault(str(clip["video_id"]), []).append(clip)
    accepted: dict[str, dict[str, Any]] = {}
    quarantine: list[dict[str, str]] = []
    for row in read_csv(path, COLUMNS):
        try:
            annotation = _annotation(row, by_video, refused, most_chars)
            earlier = accepted.setdefault(annotation["clip_id"], annotation)
            if earlier is not annotation:
                raise RowError("duplicate_annotation", f"line {earlier['line']} already describes this clip")
        except RowError as error:
            where = f"{path.as_posix()}:{row.line}"
            quarantine.append({"uri": where, "stage": "ingest", "reason": error.reason, "detail": error.detail})
    return list(accepted.values()), quarantine


def told_splits(path: Path) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return the split that ``annotations.csv`` tells of a video id, and rows of `tables.QUARANTINE` for wrong ones.

    Of two that differ the one further from training holds, so that nothing of a test set is trained on.
    """
    told: dict[str, str] = {}
    quarantine: list[dict[str, str]] = []
    for row in read_csv(path, COLUMNS, ("split",)):
        split = row.values.get("split", "").strip()
        if split in SPLITS:
            video_id = row.values["video_id"].strip()
            told[video_id] = max(split, told.get(video_id, split), key=SPLITS.index)
        elif split:
            quarantine.append(
                {
                    "uri": f"{path.as_posix()}:{row.line}",
                    "stage": "ingest",
                    "reason": "bad_split",
                    "detail": f"split {shown(split)} is none of {', '.join(SPLITS)}; the video's split is drawn",
                }
            )
    return told, quarantine


def _annotation(
    row: Row, by_video: Mapping[str, list[Mapping[str, Any]]], refused: Mapping[str, str], most_chars: int
) -> dict[str, Any]:
    if row.error:
        raise row.error
    video_id = row.values["video_id"].strip()
    if leads_out(video_id):
        raise RowError("unsafe_path", f"video_id {shown(video_id)} leads out of its folder")
    start_s, end_s = seconds("start", row.values["start"]), seconds("end", row.values["end"])
    if end_s <= start_s:
        raise RowError("end_before_start", f"end {end_s:g} is not after start {start_s:g}")
    text = _text(row.values["text"], most_chars)
    if video_id not in by_video:
        raise RowError(
            "unknown_video", f"video_id {shown(video_id)}: {refused.get(video_id, 'no such video in the corpus')}"
        )
    for clip in by_video[video_id]:
        if start_s < clip["end_s"] and end_s > clip["start_s"]:
            return {"clip_id": clip["clip_id"], "text": text, "line": row.line}
    used = ", ".join(f"{clip['start_s']:g} to {clip['end_s']:g}" for clip in by_video[video_id])
    raise RowError("outside_clip", f"{start_s:g} to {end_s:g} s is outside the part that is used ({used} s)")


def seconds(column: str, value: str) -> float:
    """Return the number of seconds that a cell holds; RowError where it holds none."""
    if not _NUMBER.fullmatch(value.strip()):
        raise RowError("bad_number", f"{column} {shown(value)} is not a number of seconds")
    return float(value)


def _text(value: str, most_chars: int) -> str:
    text = clean_text(value)
    if not text:
        raise RowError("empty_text", "the text is empty")
    if len(text) > most_chars:
        raise RowError("text_too_long", f"{len(text)} characters, at most {most_chars} are taken")
    return text
