"""What a version's run keeps of its clips: enough to say, years later, what a version saw of a track.

One Parquet table, `clips.parquet`: a row per clip of the manifest and per track of the tagger's seed
library. The manifest itself is in DVC's cache, which may be cleared; this stays with the run.
"""

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from components.tables import read_rows, write_rows
from flows.workspace.graph import Graph, Stage
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

Row = dict[str, Any]

FOLDER, CLIPS = "lineage", "clips.parquet"
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


def write_lineage(graph: Graph, workspace: Workspace, folder: Path) -> None:
    """Write `clips.parquet` into `folder` (which exists), from the files that a retrain left.

    Args:
        graph: says where the files are.
        workspace: holds them.
        folder: a scratch folder; log it as run artifact folder `FOLDER`.
    """
    root = workspace.root
    files = graph.files
    heard = [clips_of(files.store(name)) for name in ("video", "music")]
    indexed = clips_of(files.index)
    exemplars = {row["clip_id"]: row["exemplar_ids"] or [] for row in written_table(graph, root, "captions")}
    described = {row["clip_id"] for row in written_table(graph, root, "annotated")}
    rows = [
        {
            **{name: row[name] for name in SCHEMA.names if name in row},
            "trained": row["split"] == "train" and all(row["clip_id"] in ids for ids in heard),
            "described": row["clip_id"] in described,
            "indexed": row["clip_id"] in indexed,
            "exemplar_ids": exemplars.get(row["clip_id"], []),
        }
        for row in read_rows(files.manifest)
    ]
    rows += [
        {
            "clip_id": row["clip_id"],
            "split": SEED,
            "uri": row["uri"],
            "sha256": row["sha256"],
            **dict.fromkeys(("trained", "described", "indexed"), False),
            "exemplar_ids": [],
        }
        for row in written_table(graph, root, "seed")
    ]
    write_rows(folder / CLIPS, rows, SCHEMA, sort_by=("split", "clip_id"))


def read_lineage(client: "MlflowClient", run_id: str) -> list[Row] | None:
    """Return the rows that a run keeps; None where it was made before runs kept them."""
    if not any(item.path == FOLDER for item in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return read_rows(Path(client.download_artifacts(run_id, f"{FOLDER}/{CLIPS}", scratch)), SCHEMA)


def clips_of(folder: Path) -> set[str]:
    """The clip ids of a feature store or a catalogue: those of whatever Parquet tables lie in it."""
    import pyarrow.parquet as pq

    found: set[str] = set()
    for path in sorted(folder.glob("*.parquet")):
        file = pq.ParquetFile(path)
        if "clip_id" in file.schema_arrow.names:
            found.update(file.read(columns=["clip_id"]).column("clip_id").to_pylist())
    return found


def captions_shown(rows: list[Row]) -> dict[str, list[str]]:
    """For each clip that stood in prompts as an exemplar, the clips whose captions it served for."""
    served: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for clip_id in row["exemplar_ids"] or ():
            served[clip_id].append(row["clip_id"])
    return dict(served)


def written_table(graph: Graph, root: Path, argument: str) -> list[Row]:
    """The rows of the file that some stage writes as `--argument`; none where no stage does."""
    path = next((root / path for stage in graph.stages if (path := _written(stage, argument))), None)
    return read_rows(path) if path is not None and path.is_file() else []


def _written(stage: Stage, argument: str) -> str | None:
    path = stage.arguments.get(argument)
    return path if path in stage.outputs and path.endswith(".parquet") else None
