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
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components import tables

INDEX = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("segments", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
    ]
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

    def __init__(self, folder: Path, spec: dict[str, Any], index: pa.Table, shards: list[NDArray[np.float16]]) -> None:
        self.folder = folder
        self.spec = spec
        self.digest = spec_digest(spec)
        self.clip_ids: list[str] = index.column("clip_id").to_pylist()
        self.keys: list[str] = index.column("key").to_pylist()
        self.segments: NDArray[np.int64] = index.column("segments").to_numpy()
        self._shards = shards or [np.zeros((0, spec["max_segments"], spec["dims"]), np.float16)]
        self._joined = _Shards(shards) if len(shards) > 1 else None
        self._row_of = {clip_id: row for row, clip_id in enumerate(self.clip_ids)}
        self._valid = np.arange(spec["max_segments"])[None, :] < self.segments[:, None]  # (N, S)

    @classmethod
    def open(cls, folder: Path) -> "FeatureStore":
        """Open a store.

        Raises:
            ValueError: a file is missing, cut short or does not agree with the spec; it is named.
        """
        head = read_head(folder)
        spec, shard_rows = head["spec"], head["shard_rows"]
        index = read_index(folder, head)
        shape = (spec["max_segments"], spec["dims"])
        shards = []
        for number, _ in enumerate(head["sha256"]):
            rows = min(shard_rows, index.num_rows - number * shard_rows)
            shards.append(read_shard(folder / shard_name(number), (rows, *shape)))
        return cls(folder, spec, index, shards)

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
        """Return (B, S, D) float16 features and the (B, S) mask (True = valid) of row numbers.

        Raises:
            IndexError: the store has no such row.
        """
        if len(rows) and rows.min() < 0:
            raise IndexError(f"{self.folder}: row {rows.min()} is negative")
        mask = self._valid.take(rows, axis=0)
        return self._shards[0].take(rows, axis=0) if self._joined is None else self._joined.take(rows), mask

    def gather(self, clip_ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (B, S, D) float32 features and the (B, S) mask (True = valid) of clips.

        Raises:
            ValueError: a clip is not in the store.
        """
        features, mask = self.take(self.rows_of(clip_ids))
        return _widen(features), mask


class _Shards:
    """Shards as one array over the addresses from the lowest to the highest, of which numpy takes rows at once.

    Its items are whole rows and begin at every second byte. Between the shards lies memory of others: it must be
    asked for nothing but ``starts``. (Bytes of rows, joined, are slower: for each row a Python object is made, or
    fetched from memory, and a small row is hardly larger.)
    """

    def __init__(self, shards: list[NDArray[np.float16]]) -> None:
        self._shards = shards  # keeps them mapped
        self._shape = shards[0].shape[1:]
        size = shards[0].itemsize * math.prod(self._shape)
        addresses = np.concatenate([shard.ctypes.data + size * np.arange(len(shard)) for shard in shards])
        low, high = int(addresses.min()), int(addresses.max())
        self._starts = (addresses - low) // 2  # (N,) items of the array that are rows
        window = SimpleNamespace(
            __array_interface__={
                "version": 3, "typestr": f"|V{size}", "data": (low, True), "shape": ((high - low) // 2 + 1,), "strides": (2,),
            }
        )  # fmt: skip
        self._window: NDArray[np.void] = np.asarray(window)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return (B, S, D) features of row numbers; each is copied once.

        Raises:
            IndexError: there is no such row.
        """
        taken: NDArray[np.float16] = self._window[self._starts.take(rows)].view(np.float16)
        return taken.reshape(len(rows), *self._shape)


def _widen(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return finite float16 numbers as float32, exactly; three times as fast as ``astype``.

    Sign, exponent and fraction are moved to their float32 places; 2^112 mends the exponent's bias.
    """
    bits = half.view(np.uint16).astype(np.uint32)
    single: NDArray[np.float32] = (((bits & 0x8000) << 16) | ((bits & 0x7FFF) << 13)).view(np.float32)
    single *= np.float32(2.0**112)
    return single


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.npy"


def read_head(folder: Path) -> dict[str, Any]:
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


def read_index(folder: Path, head: Mapping[str, Any]) -> pa.Table:
    path = folder / "index.parquet"
    try:
        index = tables.read_table(path, INDEX)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: damaged ({error}); remove the folder and run the features stage again") from None
    if index.num_rows != head["rows"]:
        raise ValueError(f"{path}: {index.num_rows} rows, spec.json says {head['rows']}; run the features stage again")
    return index


def read_shard(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float16]:
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
