"""The catalogue as files: embeddings, index, table, and the facts that bind them together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components import tables
from components.indexing.index import build_index, load_faiss
from components.indexing.params import IndexingSection
from components.stage import write_json

CATALOGUE = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("track_id", pa.string(), nullable=False),
        ("artist", pa.string()),
        ("title", pa.string()),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("tags", pa.list_(pa.string()), nullable=False),  # "group:name", likeliest first in each group
    ]
)
EMBEDDINGS, INDEX, TABLE, META = "embeddings.npy", "index.faiss", "catalogue.parquet", "meta.json"


def catalogue_rows(
    manifest: Sequence[dict[str, Any]], tags: Sequence[dict[str, Any]], threshold: float
) -> list[dict[str, Any]]:
    """Return one catalogue row per manifest row, by clip id, with its tags of at least ``threshold``."""
    names = {
        row["clip_id"]: [f"{tag['group']}:{tag['name']}" for tag in row["tags"] if tag["probability"] >= threshold]
        for row in tags
    }
    rows = sorted(manifest, key=lambda row: row["clip_id"])
    return [
        {name: names.get(row["clip_id"], []) if name == "tags" else row[name] for name in CATALOGUE.names}
        for row in rows
    ]


def write_catalogue(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    embeddings: NDArray[np.float32],
    facts: dict[str, Any],
    section: IndexingSection,
) -> None:
    """Write the four files into ``folder`` (which exists).

    Args:
        folder: where to.
        rows: catalogue rows by clip id.
        embeddings: (N, E) unit vectors of the rows, in order.
        facts: what else meta.json shall say (model digest, extractor digest).
        section: the kind of index.
    """
    faiss = load_faiss()

    index = build_index(embeddings, section)
    np.save(folder / EMBEDDINGS, embeddings, allow_pickle=False)
    (folder / INDEX).write_bytes(faiss.serialize_index(index).tobytes())
    tables.write_rows(folder / TABLE, rows, CATALOGUE)
    kind = "exact" if len(rows) < section.exact_below else "ivf-sq8"
    splits = {split: sum(row["split"] == split for row in rows) for split in ("train", "val", "test")}
    meta = {"clips": len(rows), "dims": embeddings.shape[1], "index": kind, "rerank": section.rerank, "splits": splits}
    write_json(folder / META, meta | facts)
