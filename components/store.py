"""The feature store: a few large float16 arrays, an index and a spec (design 2.9).

A store is a folder::

    spec.json        what made the features, the layout, and a checksum per shard
    index.parquet    clip_id, shard, row, segments (valid ones), key (of the content it was made from)
    shard-00000.npy  (rows, S, D) float16, zero after a clip's last segment; memory-mapped on read

The layout is canonical: rows in clip_id order, a fixed number per shard. So a store grown clip by
clip has the same bytes as one made in a single run.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components import tables
from components.stage import atomic_file

# B clips, S segments, D dims.
Compute = Callable[[list[str]], Iterator[tuple[str, "NDArray[Any] | Exception"]]]

INDEX = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("segments", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
    ]
)

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


def spec_digest(spec: Mapping[str, Any]) -> str:
    """Return the sha256 of a spec in canonical JSON; equal specs make equal features."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class FeatureStore:
    """Read access to one store. Opening reads the index; the arrays stay on disk until gathered.

    Attributes:
        spec: what made the features; has at least ``dims`` (D) and ``max_segments`` (S).
        digest: sha256 of ``spec``.
        clip_ids: every clip, sorted.
        keys: the content key of each clip, in the same order.
        segments: (N,) valid segments of each clip, in the same order.
    """

    def __init__(
        self, folder: Path, spec: dict[str, Any], index: pa.Table, shards: list[NDArray[np.float16]], shard_rows: int
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.digest = spec_digest(spec)
        self.clip_ids: list[str] = index.column("clip_id").to_pylist()
        self.keys: list[str] = index.column("key").to_pylist()
        self.segments: NDArray[np.int64] = index.column("segments").to_numpy()
        self._shards = shards
        self._shard_rows = shard_rows
        self._row_of = {clip_id: row for row, clip_id in enumerate(self.clip_ids)}
        self._valid = np.arange(spec["max_segments"])[None, :] < self.segments[:, None]  # (N, S)

    @classmethod
    def open(cls, folder: Path) -> "FeatureStore":
        """Open a store.

        Raises:
            ValueError: a file is missing, cut short or does not agree with the spec; it is named.
        """
        head = _read_head(folder)
        spec, shard_rows = head["spec"], head["shard_rows"]
        index = _read_index(folder, head)
        shape = (spec["max_segments"], spec["dims"])
        shards = []
        for number, _ in enumerate(head["sha256"]):
            rows = min(shard_rows, index.num_rows - number * shard_rows)
            shards.append(_read_shard(folder / _shard_name(number), (rows, *shape)))
        return cls(folder, spec, index, shards, shard_rows)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self._row_of

    def rows_of(self, clip_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the (B,) row numbers of clips, for repeated ``take`` calls.

        Raises:
            ValueError: a clip is not in the store.
        """
        try:
            return np.fromiter((self._row_of[clip_id] for clip_id in clip_ids), np.int64, len(clip_ids))
        except KeyError as error:
            raise ValueError(f"{self.folder}: no features of clip {error.args[0]!r}") from None

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Return (B, S, D) float16 features and the (B, S) mask (True = valid) of row numbers."""
        if len(self._shards) == 1:
            return self._shards[0].take(rows, axis=0), self._valid.take(rows, axis=0)
        out = np.empty((len(rows), self.spec["max_segments"], self.spec["dims"]), np.float16)
        shard, row = np.divmod(rows, self._shard_rows)
        for number in np.unique(shard):
            where = np.flatnonzero(shard == number)
            out[where] = self._shards[number].take(row[where], axis=0)
        return out, self._valid.take(rows, axis=0)

    def gather(self, clip_ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (B, S, D) float32 features and the (B, S) mask (True = valid) of clips.

        Raises:
            ValueError: a clip is not in the store.
        """
        features, mask = self.take(self.rows_of(clip_ids))
        return _widen(features), mask


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
        shard_rows: rows in each shard file.
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
    digest = spec_digest(spec)
    shape = (int(spec["max_segments"]), int(spec["dims"]))

    before: set[str] = set()
    found: dict[str, _Row] = {}
    for place in (partial / "previous", folder):
        before |= _rows_of_store(place, digest, shape, wanted, found)
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

    _publish(folder, partial, spec, shard_rows, [(clip_id, wanted[clip_id], found[clip_id]) for clip_id in sorted(found)])
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
            _save(self._partial / f"{name}.npy", block)
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
        head = _read_head(folder)
        index = _read_index(folder, head)
    except ValueError as error:
        log.warning("%s; its rows are computed again", error)
        return set()
    clip_ids: list[str] = index.column("clip_id").to_pylist()
    if spec_digest(head["spec"]) != digest:
        return set(clip_ids)
    keys, segments = index.column("key").to_pylist(), index.column("segments").to_pylist()
    size = head["shard_rows"]
    for number, checksum in enumerate(head["sha256"]):
        first, last = number * size, min((number + 1) * size, len(clip_ids))
        path = folder / _shard_name(number)
        try:
            array = _read_shard(path, (last - first, *shape))
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
            array = _read_shard(listing.with_suffix(".npy"), (len(content["rows"]), *shape))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s: %s; its rows are computed again", listing, error)
            continue
        for at, (clip_id, key, segments) in enumerate(content["rows"]):
            if wanted.get(clip_id) == key:
                found[clip_id] = _Row(array, at, segments)
    return number + 1


def _publish(
    folder: Path, partial: Path, spec: dict[str, Any], shard_rows: int, rows: list[tuple[str, str, _Row]]
) -> None:
    """Write the canonical store beside the old one, then let it take the old one's place.

    The old store is moved into the partial folder first: whenever a kill strikes, every finished
    row is still in a place where the next run looks.
    """
    new = partial / "next"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    checksums, index = [], []
    for number, first in enumerate(range(0, len(rows), shard_rows)):
        chunk = rows[first : first + shard_rows]
        block = np.empty((len(chunk), int(spec["max_segments"]), int(spec["dims"])), np.float16)
        by_source: dict[int, list[int]] = {}
        for at, (_, _, row) in enumerate(chunk):
            by_source.setdefault(id(row.source), []).append(at)
        for places in by_source.values():
            block[places] = chunk[places[0]][2].source[[chunk[at][2].row for at in places]]
        _save(new / _shard_name(number), block)
        checksums.append(_sha256(new / _shard_name(number)))
        index += [
            {"clip_id": clip_id, "shard": number, "row": at, "segments": row.segments, "key": key}
            for at, (clip_id, key, row) in enumerate(chunk)
        ]
    tables.write_rows(new / "index.parquet", index, INDEX)
    head = {"spec": spec, "shard_rows": shard_rows, "rows": len(rows), "sha256": checksums}
    (new / "spec.json").write_text(json.dumps(head, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    previous = partial / "previous"
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.replace(previous)
    new.replace(folder)
    shutil.rmtree(partial)


def _widen(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return finite float16 numbers as float32, exactly; three times as fast as ``astype``.

    Sign, exponent and fraction are moved to their float32 places; 2^112 mends the exponent's bias.
    """
    bits = half.view(np.uint16).astype(np.uint32)
    single: NDArray[np.float32] = (((bits & 0x8000) << 16) | ((bits & 0x7FFF) << 13)).view(np.float32)
    single *= np.float32(2.0**112)
    return single


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.npy"


def _save(path: Path, block: NDArray[np.float16]) -> None:
    with path.open("wb") as handle:
        np.save(handle, block, allow_pickle=False)
        handle.flush()
        os.fsync(handle.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _read_head(folder: Path) -> dict[str, Any]:
    path = folder / "spec.json"
    try:
        head: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        shards = -(-head["rows"] // head["shard_rows"])
        agrees = len(head["sha256"]) == shards and min(head["spec"]["dims"], head["spec"]["max_segments"]) > 0
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; not a feature store, or half of one") from None
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{path}: damaged ({error}); remove the folder and run the features stage again") from None
    if not agrees:
        raise ValueError(f"{path}: rows and shards do not agree; remove the folder and run the features stage again")
    return head


def _read_index(folder: Path, head: Mapping[str, Any]) -> pa.Table:
    path = folder / "index.parquet"
    try:
        index = tables.read_table(path, INDEX)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: damaged ({error}); remove the folder and run the features stage again") from None
    if index.num_rows != head["rows"]:
        raise ValueError(f"{path}: {index.num_rows} rows, spec.json says {head['rows']}; run the features stage again")
    return index


def _read_shard(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float16]:
    """Map a shard into memory; ValueError names the file when it is not what the index expects."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); run the features stage again") from None
    if array.shape != shape or array.dtype != np.float16:
        raise ValueError(
            f"{path}: {array.dtype} array of shape {array.shape}, expected float16 of {shape}; run the features stage again"
        )
    plain: NDArray[np.float16] = array.view(np.ndarray)
    return plain
