"""Which files of a workspace hold a track, and in how many rows: found by looking, not by knowing the stages."""

import csv
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.lineage.track import Track
from flows.workspace.graph import Graph

_OWN = ("clip_id", "track_id", "video_id", "uri")  # columns that say whose row it is
_TEXTS = (".html", ".json", ".md", ".txt")
_MOST_BYTES = 64 << 20  # of a text file that is searched


@dataclass
class Holding:
    """One file that holds a track."""

    stage: str
    path: str
    rows: int = 0
    """Rows of its own."""
    mentions: dict[str, int] = field(default_factory=dict)
    """Rows of others that name it, by column: an exemplar, the best hit of a query; `text` for reports."""

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def holdings(graph: Graph, root: Path, track: Track) -> list[Holding]:
    """Return every file of the graph's stages that holds the track, in the order of the graph.

    Media files are found by their path, tables by their cells, reports by their text. What has no ids of
    its own (arrays of features, an index, weights) is told by the table beside it.
    """
    found = []
    for stage in graph.stages:
        for path in _files(root, stage.outputs, stage.arguments.values()):
            holding = _holding(root, path, track)
            if holding is not None:
                holding.stage = stage.name
                found.append(holding)
    return found


def _files(root: Path, outputs: tuple[str, ...], arguments: Any) -> Iterator[Path]:
    """Yield the files of a stage's outputs, and of its working folders: arguments below the data that are folders."""
    inputs = {Path(path) for path in arguments} - {Path(path) for path in outputs}
    working = [path for path in inputs if path.name.endswith(("-cache", "-checkpoints"))]
    for place in (*map(Path, outputs), *sorted(working)):
        there = root / place
        if there.is_file():
            yield there
        for folder, below, names in os.walk(there):
            below.sort()
            yield from (Path(folder) / name for name in sorted(names))


def _holding(root: Path, path: Path, track: Track) -> Holding | None:
    shown = path.relative_to(root).as_posix()
    match path.suffix:
        case ".parquet":
            return _table(path, shown, track)
        case ".csv":
            words = track.ids | set(track.uris) | {Path(uri).name for uri in track.uris}
            with path.open(encoding="utf-8", errors="replace", newline="") as handle:
                rows = sum(any(Path(cell).name in words or cell in words for cell in row) for row in csv.reader(handle))
            return Holding("", shown, rows=rows) if rows else None
        case suffix if suffix in _TEXTS and path.stat().st_size <= _MOST_BYTES:
            text = path.read_text(encoding="utf-8", errors="replace")
            count = sum(text.count(word) for word in (*track.clips, *(Path(uri).name for uri in track.uris)))
            return Holding("", shown, mentions={"text": count}) if count else None
        case _:
            return Holding("", shown, rows=1) if shown in track.uris or str(path) in track.uris else None


def _table(path: Path, shown: str, track: Track) -> Holding | None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    words = pa.array(sorted(track.ids | set(track.uris)))
    found = Holding("", shown)
    file = pq.ParquetFile(path)
    texts = [item.name for item in file.schema_arrow if pa.types.is_string(item.type)]
    lists = [
        item.name
        for item in file.schema_arrow
        if pa.types.is_list(item.type) and pa.types.is_string(item.type.value_type)
    ]
    for batch in file.iter_batches(columns=[*texts, *lists]):
        own = pa.array([False] * batch.num_rows)
        hits = {name: pc.is_in(batch.column(name), words) for name in texts}
        for name in (name for name in _OWN if name in hits):
            own = pc.or_(own, hits[name])
        found.rows += pc.sum(own).as_py() or 0
        hits = {name: mask for name, mask in hits.items() if name not in _OWN}
        for name in lists:
            column = batch.column(name)
            rows = pc.list_parent_indices(column).filter(pc.is_in(pc.list_flatten(column), words))
            hits[name] = pc.is_in(pa.array(range(batch.num_rows)), pc.unique(rows).cast(pa.int64()))
        for name, mask in hits.items():
            count = pc.sum(pc.and_not(mask, own)).as_py() or 0
            if count:
                found.mentions[name] = found.mentions.get(name, 0) + count
    return found if found.rows or found.mentions else None
