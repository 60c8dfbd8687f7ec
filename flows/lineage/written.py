"""What a version's run is given of its clips, and what the graph's files say of them."""

from collections import defaultdict
from pathlib import Path

from components.tables import read_rows, write_rows
from flows.release.clips import CLIPS, SCHEMA, SEED, Row
from flows.workspace.graph import Graph, Stage
from flows.workspace.workspace import Workspace


def write_lineage(graph: Graph, workspace: Workspace, folder: Path) -> None:
    """Write `clips.parquet` into `folder` (which exists), from the files that a retrain left.

    Args:
        graph: says where the files are.
        workspace: holds them.
        folder: a scratch folder; log it as run artifact folder `release.clips.FOLDER`.
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
