"""Scores of earlier runs, finished or stopped, and new ones as they come.

A stopped run leaves its scores in a folder beside the output, one Parquet file per shard. A table
grown clip by clip has the same bytes as one made in a single run.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components import stage, tables
from components.code import code_digest
from components.tagging.calibration import DECIMALS
from components.tagging.clips import Clip
from components.tagging.tagger import Tagger

Array = NDArray[np.float64]
Known = Mapping[str, tuple[str, Array]]  # clip_id: key and (L,) scores

SHARD = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("scores", pa.list_(pa.float64()), nullable=False),
    ]
)

_FLUSH_S = 5.0  # work at risk


@dataclass(frozen=True)
class Scored:
    """N clips that were tagged, in the order of their ids, and how that came about."""

    clip_ids: list[str]
    keys: list[str]
    scores: Array  # (N, L)
    computed: int
    kept: int
    dropped: int
    skipped: int
    """Clips without anything to be tagged from."""
    refused: list[dict[str, str]] = field(default_factory=list)
    """Rows of the quarantine."""


def score_clips(
    tagger: Tagger, clips: Sequence[Clip], before: Known, partial: Path, flush_s: float = _FLUSH_S
) -> Scored:
    """Score clips, keeping what earlier runs have where neither tagger nor content has changed.

    Args:
        tagger: what scores them.
        clips: every wanted clip.
        before: the last run's scores.
        partial: folder for the scores of this run; the caller removes it when they are safe.
        flush_s: seconds between shards.

    Raises:
        ValueError: every single clip was refused; one reason is told.
    """
    by_id = {clip.clip_id: clip for clip in clips}
    contents = tagger.keys(list(by_id.values()))
    made_by = f"{tagger.digest}:{code_digest(_rounded)}"
    keys = {
        clip_id: hashlib.sha256(f"{made_by}:{content}".encode()).hexdigest()
        for clip_id, content in sorted(contents.items())
    }
    found: dict[str, Array] = {}
    for known in (before, *map(read_shard, sorted(partial.glob("part-*.parquet")))):
        found |= {clip_id: scores for clip_id, (key, scores) in known.items() if keys.get(clip_id) == key}
    missing = [by_id[clip_id] for clip_id in keys if clip_id not in found]
    kept, refused = len(found), _score(tagger, missing, keys, partial, flush_s, found)
    if keys and not found:
        raise ValueError(
            f"tagging: not one of {len(keys)} clips could be tagged; "
            f"{refused[0]['uri']}: {refused[0]['reason']}: {refused[0]['detail']}"
        )
    done = [clip_id for clip_id in keys if clip_id in found]
    return Scored(
        clip_ids=done,
        keys=[keys[clip_id] for clip_id in done],
        scores=np.array([found[clip_id] for clip_id in done]).reshape(len(done), len(tagger.labels)),
        computed=len(missing) - len(refused),
        kept=kept,
        dropped=len(set(before) - set(keys)),
        skipped=len(by_id) - len(keys),
        refused=refused,
    )


def read_shard(path: Path) -> dict[str, tuple[str, Array]]:
    """Return the scores of one shard; none where there is no file, or one that cannot be read."""
    if not path.exists():
        return {}
    try:
        rows = tables.read_rows(path, SHARD)
    except (ValueError, OSError, pa.ArrowException):
        return {}
    return {row["clip_id"]: (row["key"], np.array(row["scores"], np.float64)) for row in rows}


def write_shard(path: Path, rows: Iterable[tuple[str, str, Array]]) -> None:
    """Write (clip_id, key, scores) of some clips."""
    listed = [{"clip_id": clip_id, "key": key, "scores": scores.tolist()} for clip_id, key, scores in rows]
    tables.write_rows(path, listed, SHARD)


def _score(
    tagger: Tagger, clips: list[Clip], keys: Mapping[str, str], partial: Path, flush_s: float, found: dict[str, Array]
) -> list[dict[str, str]]:
    """Add the clips' scores to ``found``, and to a new shard about every ``flush_s``; return what failed."""
    uris, refused, waiting, since = {clip.clip_id: clip.uri for clip in clips}, [], [], time.monotonic()
    number = len(list(partial.glob("part-*.parquet")))
    for clip_id, result in stage.progress(tagger.score(clips), "tags", len(clips)) if clips else ():
        if isinstance(result, Exception):
            reason, detail = str(getattr(result, "reason", "failed")), str(getattr(result, "detail", result))
            refused.append({"uri": uris[clip_id], "stage": "tagging", "reason": reason, "detail": _line(detail)})
        elif not np.isfinite(result).all():
            detail = "a probability is not a finite number"
            refused.append({"uri": uris[clip_id], "stage": "tagging", "reason": "not_finite", "detail": detail})
        else:
            found[clip_id] = _rounded(result)
            waiting.append((clip_id, keys[clip_id], found[clip_id]))
        if waiting and time.monotonic() - since >= flush_s:
            write_shard(partial / f"part-{number:05d}.parquet", waiting)
            waiting, number, since = [], number + 1, time.monotonic()
    return sorted(refused, key=lambda row: (row["uri"], row["reason"]))


def _rounded(scores: Array) -> Array:
    """Return scores as they are kept."""
    return np.round(scores, DECIMALS)


def _line(text: str) -> str:
    return " ".join(text.split()) or "no reason given"
