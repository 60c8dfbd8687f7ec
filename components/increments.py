"""Row-level increments of a feature store: compute what is missing, keep the rest, lose nothing.

A store grown clip by clip has the same bytes as one made in a single run.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components import tables
from components.stage import atomic_file, atomic_folder, recover_folder
from components.store import INDEX, read_head, read_index, read_shard, rows_digest, shard_name

# B clips, S segments, D dims.
Compute = Callable[[list[str]], Iterator[tuple[str, "NDArray[Any] | Exception"]]]

# What a head says of the layout: rows in a file. Earlier releases began another file there; now it is never less
# than all rows, and stores that were one file keep their bytes.
_SHARD_ROWS = 65536

_LARGEST = float(np.finfo(np.float16).max)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What one update did: counts of rows, and the refused ones as (clip_id, reason, detail)."""

    rows: int
    computed: int
    kept: int
    dropped: int
    refused: list[tuple[str, str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.rows} rows, {self.computed} computed, {self.kept} kept, {self.dropped} dropped, "
            f"{len(self.refused)} quarantined"
        )


def update_store(
    folder: Path,
    spec: dict[str, Any],
    rows: Iterable[tuple[str, str]],
    compute: Compute,
    shard_rows: int,
    flush_s: float = 5.0,
) -> Report:
    """Bring the store at ``folder`` to exactly ``rows``, computing only what is missing.

    A row is kept when its clip_id, its content key and the spec's digest are those of an earlier
    run. Finished rows are published in ``<folder>.partial`` about every ``flush_s`` seconds, so a
    killed run loses no more than that; the folder itself is replaced at the end, whole.

    Args:
        folder: the store; may not exist yet.
        spec: what makes the features; must have ``dims`` (D) and ``max_segments`` (S).
        rows: (clip_id, content key) of every wanted row; a clip_id may stand once.
        compute: yields (clip_id, (s, D) array or the exception that stopped it), in any order.
            Exceptions with a ``reason`` attribute keep it as the reason code.
        shard_rows: most rows in memory at once: of a part, and while the store is written.
        flush_s: seconds of work at risk.

    Raises:
        ValueError: a clip_id stands twice in ``rows``, or every row was refused.
    """
    wanted: dict[str, str] = {}
    for clip_id, key in rows:
        if clip_id in wanted:
            raise ValueError(f"{folder}: clip {clip_id!r} stands twice in the rows to compute")
        wanted[clip_id] = key
    partial = folder.with_name(folder.name + ".partial")
    digest = rows_digest(spec)
    shape = (int(spec["max_segments"]), int(spec["dims"]))

    recover_folder(folder)
    found: dict[str, _Row] = {}
    before = _rows_of_store(folder, digest, shape, wanted, found)
    part_count = _rows_of_parts(partial, digest, shape, wanted, found)
    missing = [clip_id for clip_id in sorted(wanted) if clip_id not in found]
    kept = len(found)

    refused: dict[str, tuple[str, str, str]] = {}
    if missing:
        parts = _Parts(partial, digest, shape, part_count, flush_s, shard_rows)
        pending = set(missing)
        for clip_id, result in compute(missing):
            assert clip_id in pending, f"compute answered for {clip_id!r}, which was not asked or stands twice"
            pending.remove(clip_id)
            if isinstance(result, Exception):
                detail = str(getattr(result, "detail", result)) or type(result).__name__
                refused[clip_id] = (clip_id, str(getattr(result, "reason", "failed")), " ".join(detail.split()))
            elif not (np.abs(result) <= _LARGEST).all():  # NaN is not either
                refused[clip_id] = (clip_id, "not_finite", "a feature is not a finite float16 number")
            else:
                parts.add(clip_id, wanted[clip_id], result)
        assert not pending, f"compute left out {len(pending)} clips, {min(pending)!r} first"
        parts.flush()
        _rows_of_parts(partial, digest, shape, wanted, found)
    if wanted and not found:
        _, reason, detail = refused[min(refused)]
        raise ValueError(f"{folder}: every one of {len(wanted)} rows was refused; {min(refused)}: {reason}: {detail}")

    with atomic_folder(folder) as new:
        _write(new, spec, shard_rows, [(clip_id, wanted[clip_id], found[clip_id]) for clip_id in sorted(found)])
    shutil.rmtree(partial, ignore_errors=True)  # its rows are in the store now
    return Report(
        rows=len(found),
        computed=len(missing) - len(refused),
        kept=kept,
        dropped=len(before - set(wanted)),
        refused=[refused[clip_id] for clip_id in sorted(refused)],
    )


@dataclass(frozen=True)
class _Row:
    """Where a finished row lies: an array on disk, the row in it, and how many segments are valid."""

    source: NDArray[np.float16]
    row: int
    segments: int


class _Parts:
    """Progress: small arrays in ``<folder>.partial``, each complete once its JSON is there."""

    def __init__(
        self, partial: Path, digest: str, shape: tuple[int, int], number: int, flush_s: float, max_rows: int
    ) -> None:
        self._partial, self._digest, self._shape = partial, digest, shape
        self._number, self._flush_s, self._max_rows = number, flush_s, max_rows
        self._rows: list[tuple[str, str, NDArray[Any]]] = []
        self._since = time.monotonic()
        partial.mkdir(parents=True, exist_ok=True)

    def add(self, clip_id: str, key: str, features: NDArray[Any]) -> None:
        most, dims = self._shape
        fits = features.ndim == 2 and features.shape[1] == dims and 1 <= features.shape[0] <= most
        assert fits, f"features of shape {features.shape} do not fit the spec's {self._shape}"
        self._rows.append((clip_id, key, features))
        if len(self._rows) >= self._max_rows or time.monotonic() - self._since >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            block = np.zeros((len(self._rows), *self._shape), np.float16)
            for at, (_, _, features) in enumerate(self._rows):
                block[at, : len(features)] = features
            name = f"part-{self._number:05d}"
            with atomic_file(self._partial / f"{name}.npy") as part:
                _save(part, block.shape, [block])
            listed = [[clip_id, key, len(features)] for clip_id, key, features in self._rows]
            with atomic_file(self._partial / f"{name}.json") as part:
                part.write_text(json.dumps({"digest": self._digest, "rows": listed}), encoding="utf-8")
            self._number += 1
            self._rows = []
        self._since = time.monotonic()


def _rows_of_store(
    folder: Path, digest: str, shape: tuple[int, int], wanted: Mapping[str, str], found: dict[str, _Row]
) -> set[str]:
    """Add the reusable rows of a finished store to ``found``; return every clip it holds.

    Checksums are verified here: a damaged shard must be computed again, not carried along.
    """
    if not folder.exists():
        return set()
    try:
        head = read_head(folder)
        index = read_index(folder, head)
    except ValueError as error:
        log.warning("%s; its rows are computed again", error)
        return set()
    clip_ids: list[str] = index.column("clip_id").to_pylist()
    if rows_digest(head["spec"]) != digest:
        return set(clip_ids)
    keys, segments = index.column("key").to_pylist(), index.column("segments").to_pylist()
    size = head["shard_rows"]
    for number, checksum in enumerate(head["sha256"]):
        first, last = number * size, min((number + 1) * size, len(clip_ids))
        path = folder / shard_name(number)
        try:
            array = read_shard(path, (last - first, *shape))
            if _sha256(path) != checksum:
                raise ValueError(f"{path}: the checksum is not that of spec.json")
        except ValueError as error:
            log.warning("%s; its rows are computed again", error)
            continue
        for at in range(first, last):
            if wanted.get(clip_ids[at]) == keys[at]:
                found[clip_ids[at]] = _Row(array, at - first, segments[at])
    return set(clip_ids)


def _rows_of_parts(
    partial: Path, digest: str, shape: tuple[int, int], wanted: Mapping[str, str], found: dict[str, _Row]
) -> int:
    """Add the rows of complete parts to ``found``; return the next free part number."""
    number = -1
    for listing in sorted(partial.glob("part-*.json")):
        number = int(listing.stem.removeprefix("part-"))
        try:
            content = json.loads(listing.read_text(encoding="utf-8"))
            if content["digest"] != digest:
                continue
            array = read_shard(listing.with_suffix(".npy"), (len(content["rows"]), *shape))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s: %s; its rows are computed again", listing, error)
            continue
        for at, (clip_id, key, segments) in enumerate(content["rows"]):
            if wanted.get(clip_id) == key:
                found[clip_id] = _Row(array, at, segments)
    return number + 1


def _write(new: Path, spec: dict[str, Any], shard_rows: int, rows: list[tuple[str, str, _Row]]) -> None:
    """Write the canonical store into an empty folder."""
    shape = (len(rows), int(spec["max_segments"]), int(spec["dims"]))
    if rows:
        chunks = (rows[first : first + shard_rows] for first in range(0, len(rows), shard_rows))
        _save(new / shard_name(0), shape, (_collected([row for _, _, row in chunk], shape[1:]) for chunk in chunks))
    index = [
        {"clip_id": clip_id, "shard": 0, "row": at, "segments": row.segments, "key": key}
        for at, (clip_id, key, row) in enumerate(rows)
    ]
    tables.write_rows(new / "index.parquet", index, INDEX)
    checksums = [_sha256(new / shard_name(0))] if rows else []
    head = {"spec": spec, "shard_rows": max(_SHARD_ROWS, len(rows)), "rows": len(rows), "sha256": checksums}
    (new / "spec.json").write_text(json.dumps(head, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _collected(rows: list[_Row], shape: tuple[int, int]) -> NDArray[np.float16]:
    """Return the features (rows, S, D) of ``shape`` (S, D), from each source in one call."""
    block = np.empty((len(rows), *shape), np.float16)
    by_source: dict[int, list[int]] = {}
    for at, row in enumerate(rows):
        by_source.setdefault(id(row.source), []).append(at)
    for places in by_source.values():
        block[places] = rows[places[0]].source[[rows[at].row for at in places]]
    return block


def _save(path: Path, shape: tuple[int, ...], blocks: Iterable[NDArray[np.float16]]) -> None:
    """Write blocks one behind the other as one array of ``shape``, as ``np.save`` would."""
    with path.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, {"shape": shape, "fortran_order": False, "descr": "<f2"})
        for block in blocks:
            handle.write(block.astype("<f2", copy=False).data)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
