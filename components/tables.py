"""The Parquet tables that stages exchange: their columns, and reading and writing them.

Tables are written in a canonical form (fixed column order, rows sorted by key, no timestamps, one
compression), so equal content is equal bytes and DVC sees no change where there is none.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.stage import atomic_file

_S, _F, _I = pa.string(), pa.float64(), pa.int64()

# What `corpus` offers: candidate files, nothing decoded yet.
INVENTORY = pa.schema(
    [
        pa.field("uri", _S, nullable=False),  # path from the workspace, or absolute
        pa.field("fingerprint", _S, nullable=False),  # changes when the content may have changed
        ("video_id", _S),
        ("track_id", _S),
        ("artist_id", _S),
        ("title", _S),
        ("artist", _S),
        ("licence", _S),
        ("source", _S),
    ]
)

# One row is a clip: a video with its own soundtrack (start_s and end_s bound the part that is used).
MANIFEST = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        pa.field("video_id", _S, nullable=False),
        pa.field("track_id", _S, nullable=False),
        pa.field("artist_id", _S, nullable=False),
        pa.field("split", _S, nullable=False),  # train, val, test
        pa.field("uri", _S, nullable=False),
        pa.field("sha256", _S, nullable=False),
        pa.field("bytes", _I, nullable=False),
        ("container", _S),
        ("video_codec", _S),
        ("audio_codec", _S),
        ("width", _I),
        ("height", _I),
        pa.field("duration_s", _F, nullable=False),
        ("fps", _F),
        ("sample_rate_hz", _I),
        ("channels", _I),
        pa.field("start_s", _F, nullable=False),
        pa.field("end_s", _F, nullable=False),
        ("title", _S),
        ("artist", _S),
        ("licence", _S),
        ("source", _S),
    ]
)

# A refused input: never lost, never silent.
QUARANTINE = pa.schema(
    [
        pa.field("uri", _S, nullable=False),
        pa.field("stage", _S, nullable=False),
        pa.field("reason", _S, nullable=False),
        pa.field("detail", _S, nullable=False),
    ]
)

# What was said of the split of every clip that was ever seen; see `components.ingest.history`.
SPLITS = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        pa.field("keys", pa.list_(_S), nullable=False),  # digests of what links it: video, track, artist
        pa.field("split", _S, nullable=False),
        pa.field("settings", _S, nullable=False),  # digest of the shares and the seed that it was drawn by
        pa.field("why", _S, nullable=False),
        ("before", _S),  # the split that it had before; null: none
    ]
)

# A human description of a clip, from the audio alone.
ANNOTATIONS = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        pa.field("text", _S, nullable=False),
        pa.field("line", _I, nullable=False),  # of annotations.csv
    ]
)

# A tagged track of the seed library that the probe tagger is fitted on.
SEED = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        pa.field("uri", _S, nullable=False),
        pa.field("sha256", _S, nullable=False),
        pa.field("start_s", _F, nullable=False),
        pa.field("end_s", _F, nullable=False),
        pa.field("tags", pa.list_(pa.struct([("group", _S), ("name", _S)])), nullable=False),
    ]
)

TAGS = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        pa.field("tags", pa.list_(pa.struct([("group", _S), ("name", _S), ("probability", _F)])), nullable=False),
    ]
)

# What a tagger said of a clip, before thresholds: every label, also those that the taxonomy does not know.
TAG_SCORES = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        pa.field(
            "scores",
            pa.list_(
                pa.struct(
                    [
                        ("label", _S),  # the tagger's word
                        ("group", _S),  # null: not in the taxonomy
                        ("name", _S),
                        ("score", _F),  # as the tagger said it
                        ("probability", _F),  # calibrated, where the tagger is; what thresholds apply to
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)

CAPTIONS = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        pa.field("text", _S, nullable=False),
        pa.field("kind", _S, nullable=False),  # tags, data2text, bloom, endpoint
        ("prompt_version", _S),  # kind, and a digest of code, settings, model and taxonomy
        ("prompt_digest", _S),  # of every prompt that was sent for this clip
        ("exemplar_ids", pa.list_(_S)),
        pa.field("tag_digest", _S, nullable=False),
        ("model", _S),  # name and revision
        ("decoding", _S),  # of the attempt that was used, JSON
        pa.field("seed", _I, nullable=False),
        pa.field("attempts", _I, nullable=False),
        pa.field("verdict", _S, nullable=False),  # ok, no_tags, fallback
    ]
)

# What a language model was asked and wrote: one row per attempt. It was paid for, so it is kept.
COMPLETIONS = pa.schema(
    [
        pa.field("clip_id", _S, nullable=False),
        pa.field("attempt", _I, nullable=False),
        pa.field("request", _S, nullable=False),  # digest of prompt and decoding
        pa.field("model", _S, nullable=False),
        pa.field("prefix", _S, nullable=False),  # of the prompt: the exemplars
        pa.field("suffix", _S, nullable=False),  # of the prompt: the clip
        pa.field("text", _S, nullable=False),  # raw
        pa.field("finish", _S, nullable=False),  # stop, length, error
        pa.field("detail", _S, nullable=False),
        pa.field("reasons", pa.list_(_S), nullable=False),  # why it was not good enough; empty: it was
    ]
)


def read_table(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """Read a Parquet table; with ``schema``, check that it has those columns and types.

    Raises:
        ValueError: a column is missing or has another type; the message names file and column.
    """
    table = pq.ParquetFile(path).read()
    if schema is None:
        return table
    for field in schema:
        if field.name not in table.column_names:
            raise ValueError(f"{path}: column '{field.name}' is missing; run the stage that writes it again")
        if table.schema.field(field.name).type != field.type:
            raise ValueError(
                f"{path}: column '{field.name}' is {table.schema.field(field.name).type}, expected {field.type}"
            )
    return table.select(schema.names)


def read_rows(path: Path, schema: pa.Schema | None = None) -> list[dict[str, Any]]:
    """Read a table as a list of rows."""
    rows: list[dict[str, Any]] = read_table(path, schema).to_pylist()
    return rows


def write_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema, sort_by: tuple[str, ...] | None = None
) -> None:
    """Write rows under ``schema``, sorted by ``sort_by`` (default: the first column), atomically.

    Raises:
        ValueError: a required column is null in some row.
    """
    keys = sort_by or (schema.names[0],)
    ordered = sorted(rows, key=lambda row: tuple(row[key] for key in keys))
    table = pa.Table.from_pylist([dict(row) for row in ordered], schema=schema)
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(
                f"{path}: column '{field.name}' has empty values in {table.column(field.name).null_count} rows"
            )
    write_table(path, table)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table in the canonical form, atomically."""
    with atomic_file(path) as part:
        pq.write_table(table, part, compression="zstd", use_dictionary=True, write_statistics=True)
