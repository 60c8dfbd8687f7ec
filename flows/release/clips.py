"""The clips of a version: a table that its run keeps, so that one can say, years later, what the version saw of a track.

One Parquet table, `clips.parquet`: a row per clip of the manifest and per track of the tagger's seed
library. The manifest itself is in DVC's cache, which may be cleared; this stays with the run. Beside it lies the history
of the splits, `splits.parquet` (`components.ingest.history`).
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from components.tables import read_rows

if TYPE_CHECKING:
    from mlflow import MlflowClient

Row = dict[str, Any]

FOLDER, CLIPS, HISTORY = "lineage", "clips.parquet", "splits.parquet"
SEED = "seed"  # stands in column split for a track of the tagger's seed library

_S = pa.string()
SCHEMA = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        ("video_id", _S),
        ("track_id", _S),
        ("artist_id", _S),
        pa.field("split", _S, nullable=False),  # train, val, test, seed
        pa.field("uri", _S, nullable=False),
        pa.field("sha256", _S, nullable=False),  # of the file
        ("title", _S),
        ("artist", _S),
        ("licence", _S),
        pa.field("trained", pa.bool_(), nullable=False),  # of the train split, with every feature that training needs
        pa.field("described", pa.bool_(), nullable=False),  # has a human description
        pa.field("indexed", pa.bool_(), nullable=False),  # is in the version's catalogue
        pa.field("exemplar_ids", pa.list_(_S), nullable=False),  # clips that were shown to write its caption
    ]
)


def read_clips(client: "MlflowClient", run_id: str) -> list[Row] | None:
    """Return the rows that a run keeps; None where it was made before runs kept them."""
    if not any(item.path == FOLDER for item in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return read_rows(Path(client.download_artifacts(run_id, f"{FOLDER}/{CLIPS}", scratch)), SCHEMA)


LEARNT: Final = {"train": "was trained on", "val": "chose its checkpoint by"}
"""What a version did with the clips of a split, but for the test split."""
_SAME: Final = ("clip_id", "track_id", "sha256")


def learnt_from(seen: Iterable[Row], rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the splits by clip id of those `rows` that a version learnt from.

    Args:
        seen: the version's clips.
        rows: of a manifest of today: a clip is one that was seen if its id, its track or its file is.

    Returns:
        train or val; train where it was both. Clips that it did not learn from are left out.
    """
    known: dict[tuple[str, str], str] = {}
    for split in ("val", "train"):  # the last one counts
        known |= {
            (name, row[name]): split for row in seen if row["split"] == split for name in _SAME if row[name] is not None
        }
    learnt = {}
    for one in rows:
        splits = {known[name, one[name]] for name in _SAME if (name, one.get(name)) in known}
        if splits:
            learnt[str(one["clip_id"])] = min(splits)
    return learnt
