"""Captions of earlier runs, finished or stopped, and publishing new ones as they come.

A stopped run leaves its captions in ``<captions>.partial``, one Parquet file per shard.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components import stage, tables
from components.captioning.captioner import NO_TAGS_TEXT, Caption, Captioner, Tagged

_FLUSH_S = 5.0  # work at risk

Row = dict[str, Any]


@dataclass(frozen=True)
class Captioned:
    """Every row, and how it came about."""

    rows: list[Row]
    computed: int
    kept: int
    dropped: int


def caption_clips(
    clips: Sequence[Tagged], kind: str, captioner: Captioner, path: Path, flush_s: float = _FLUSH_S
) -> Captioned:
    """Caption clips, keeping the rows of earlier runs whose tags and captioner are the same.

    Args:
        clips: every wanted clip.
        kind: written into the rows.
        captioner: writes the captions of clips with tags.
        path: the table of the last run, if there is one.
        flush_s: seconds between shards.
    """
    partial = path.with_name(path.name + ".partial")
    finished = _read(path)
    earlier = {
        row["clip_id"]: row
        for row in [*finished, *(row for shard in sorted(partial.glob("*.parquet")) for row in _read(shard))]
    }
    digests = {clip.clip_id: clip.digest for clip in clips}

    def holds(clip: Tagged) -> bool:
        row = earlier.get(clip.clip_id)
        made = (row["tag_digest"], row["prompt_version"], row["seed"]) if row else None
        return made == (digests[clip.clip_id], captioner.version, captioner.seed)

    ordered = sorted(clips, key=lambda clip: clip.clip_id)
    kept = {clip.clip_id: earlier[clip.clip_id] for clip in ordered if holds(clip)}
    missing = [clip for clip in ordered if clip.clip_id not in kept]
    computed: dict[str, Row] = {}
    write = _shard_writer(partial, flush_s)
    for caption in stage.progress(_captions(missing, captioner), "captions", len(missing)):
        row = _row(caption, kind, captioner, digests[caption.clip_id])
        computed[caption.clip_id] = row
        write(row)
    return Captioned(
        rows=[kept.get(clip.clip_id) or computed[clip.clip_id] for clip in ordered],
        computed=len(computed),
        kept=len(kept),
        dropped=len({row["clip_id"] for row in finished} - set(digests)),
    )


def publish(captioned: Captioned, path: Path) -> None:
    """Write the table, then forget the shards."""
    tables.write_rows(path, captioned.rows, tables.CAPTIONS)
    shutil.rmtree(path.with_name(path.name + ".partial"), ignore_errors=True)


def _captions(clips: Sequence[Tagged], captioner: Captioner) -> Iterator[Caption]:
    for clip in clips:
        if clip.is_empty:
            yield Caption(clip.clip_id, NO_TAGS_TEXT, "no_tags", attempts=0)
    tagged = [clip for clip in clips if not clip.is_empty]
    if tagged:
        yield from captioner.caption(tagged)


def _row(caption: Caption, kind: str, captioner: Captioner, tag_digest: str) -> Row:
    return {
        "clip_id": caption.clip_id,
        "text": caption.text,
        "kind": kind,
        "prompt_version": captioner.version,
        "exemplar_ids": list(caption.exemplar_ids),
        "tag_digest": tag_digest,
        "seed": captioner.seed,
        "attempts": caption.attempts,
        "verdict": caption.verdict,
    }


def _shard_writer(partial: Path, flush_s: float) -> Callable[[Row], None]:
    """Return a function that keeps rows and writes them out about every ``flush_s`` seconds."""
    waiting: list[Row] = []
    number = len(list(partial.glob("*.parquet")))
    since = time.monotonic()

    def write(row: Row) -> None:
        nonlocal number, since
        waiting.append(row)
        if time.monotonic() - since >= flush_s:
            tables.write_rows(partial / f"part-{number:05d}.parquet", waiting, tables.CAPTIONS)
            waiting.clear()
            number, since = number + 1, time.monotonic()

    return write


def _read(path: Path) -> list[Row]:
    """Return a table's rows; none where there is no table, or one that cannot be read."""
    if not path.exists():
        return []
    try:
        return tables.read_rows(path, tables.CAPTIONS)
    except (ValueError, OSError, pa.ArrowException):
        return []
