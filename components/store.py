"""The feature store: one large float16 array, an index and a spec.

A store is a folder::

    spec.json        what made the features, the layout, and the array's checksum
    index.parquet    clip_id, shard (0), row, segments (valid ones), key (of the content it was made from)
    shard-00000.npy  (N, S, D) float16, zero after a clip's last segment; memory-mapped on read

The layout is canonical: rows in clip_id order. So a store grown clip by clip has the same bytes as one
made in a single run. It is one file, because numpy takes rows of one array in one call, and checks them;
of several arrays it takes them at half the speed. Earlier releases began another file, ``shard-00001.npy``,
every ``shard_rows`` clips: such a store is not read, and the features stage joins its files.

Shapes: N clips, B of a batch, S segments, D feature dims.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
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


_BLOCK = 1024  # clips in memory at a time where all are looked through


def spec_digest(spec: Mapping[str, Any]) -> str:
    """Return the sha256 of what defines features: those of one digest may be compared, and one model reads them.

    Which packages made them is left out. An upgrade moves a feature by its last digit as a rule, and a model must not
    become useless by it; where it does more, drift shows that, and the next run makes every row anew.
    """
    return rows_digest({key: value for key, value in spec.items() if key != "packages"})


def rows_digest(spec: Mapping[str, Any]) -> str:
    """Return the sha256 of all that makes features, packages too: rows of one digest may stand in one store."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class FeatureStore:
    """Read access to one store. Opening reads the index; the features stay on disk until gathered.

    Attributes:
        spec: what made the features; has at least ``dims`` (D) and ``max_segments`` (S).
        digest: sha256 of what of ``spec`` defines them.
        clip_ids: every clip, sorted.
        keys: the content key of each clip, in the same order.
        segments: (N,) valid segments of each clip, in the same order.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], index: pa.Table, features: NDArray[np.float16]) -> None:
        self.folder = folder
        self.spec = spec
        self.digest = spec_digest(spec)
        self.clip_ids: list[str] = index.column("clip_id").to_pylist()
        self.keys: list[str] = index.column("key").to_pylist()
        self.segments: NDArray[np.int64] = index.column("segments").to_numpy()
        self._features = features  # (N, S, D)
        self._row_of = {clip_id: row for row, clip_id in enumerate(self.clip_ids)}
        self._valid = np.arange(spec["max_segments"])[None, :] < self.segments[:, None]  # (N, S)

    @classmethod
    def open(cls, folder: Path) -> "FeatureStore":
        """Open a store.

        Raises:
            ValueError: a file is missing, cut short or does not agree with the spec; it is named. Or the features
                are in several files, as earlier releases wrote them.
        """
        head = read_head(folder)
        if len(head["sha256"]) > 1:
            raise ValueError(
                f"{folder}: {len(head['sha256'])} shard files, as an earlier release wrote them, and a store is one; "
                "run the features stage, which joins them and computes nothing again"
            )
        index = read_index(folder, head)
        shape = (head["rows"], head["spec"]["max_segments"], head["spec"]["dims"])
        features = read_shard(folder / shard_name(0), shape) if head["rows"] else np.zeros(shape, np.float16)
        return cls(folder, head["spec"], index, features)

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
        if len(rows) and rows.min() < 0:  # to numpy that is a row counted from the end
            raise IndexError(f"{self.folder}: row {rows.min()} is negative")
        return self._features.take(rows, axis=0), self._valid.take(rows, axis=0)

    def gather(self, clip_ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (B, S, D) float32 features and the (B, S) mask (True = valid) of clips.

        Raises:
            ValueError: a clip is not in the store.
        """
        features, mask = self.take(self.rows_of(clip_ids))
        return _widen(features), mask

    def means(self, clip_ids: Sequence[str]) -> NDArray[np.float32]:
        """Return (B, D): the mean of each clip's valid segments; a part of the clips is in memory at a time.

        Raises:
            ValueError: a clip is not in the store.
        """
        means = np.zeros((len(clip_ids), self.spec["dims"]), np.float32)
        for start in range(0, len(clip_ids), _BLOCK):
            means[start : start + _BLOCK] = segment_mean(*self.gather(clip_ids[start : start + _BLOCK]))
        return means


def segment_mean(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean (B, D) of valid segments, of (B, S, D) features and a (B, S) mask; zeros without any.

    A sum of float16 features is exact in float64, so it does not depend on the order.
    """
    total = (values * mask[:, :, None]).sum(axis=1, dtype=np.float64)
    mean: NDArray[np.float64] = total / np.maximum(mask.sum(axis=1), 1)[:, None]
    return mean


def segment_spread(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the standard deviation (B, D) over valid segments; arguments as above."""
    around = np.square(values - segment_mean(values, mask)[:, None])
    spread: NDArray[np.float64] = np.sqrt(segment_mean(around, mask))
    return spread


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
