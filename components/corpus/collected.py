"""What every kind of corpus hands on: the inventory, the descriptions, the seed tags, the truth."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from components import tables
from components.stage import atomic_file

ANNOTATION_COLUMNS: Final = ("video_id", "start", "end", "text")  # as in YouTube8M-MusicTextClips

TRUTH: Final = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        *(
            pa.field(f"{side}_{factor}", kind)
            for factor, kind in (
                ("genre", pa.int64()),
                ("mood", pa.int64()),
                ("instruments", pa.list_(pa.int64())),
                ("tempo", pa.list_(pa.float64())),
                ("nuance", pa.list_(pa.float64())),
            )
            for side in ("music", "video", "text")
        ),
    ]
)


@dataclass(frozen=True)
class Collected:
    """A corpus whose media are in place."""

    inventory: list[dict[str, Any]]  # rows of tables.INVENTORY
    annotations: bytes  # annotations.csv
    seed_tags: bytes  # seed_tags.csv
    truth: pa.Table  # TRUTH; no rows where the truth is unknown
    refused: list[dict[str, str]]  # rows of tables.QUARANTINE

    def write(self, inventory: Path, annotations: Path, seed_tags: Path, truth: Path, refused: Path) -> None:
        """Write the five tables, each atomically."""
        rows = ({**dict.fromkeys(tables.INVENTORY.names), **row} for row in self.inventory)
        tables.write_rows(inventory, rows, tables.INVENTORY)
        for path, content in ((annotations, self.annotations), (seed_tags, self.seed_tags)):
            with atomic_file(path) as part:
                part.write_bytes(content)
        tables.write_table(truth, self.truth)
        tables.write_rows(refused, self.refused, tables.QUARANTINE, sort_by=("uri", "reason"))


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Return a csv file: UTF-8, one line feed per row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def truth_table(rows: list[dict[str, Any]], factors: dict[str, Any] | None = None) -> pa.Table:
    """Return the truth; the schema's metadata says how each factor was drawn (see ``world.factors``)."""
    metadata = {b"world": json.dumps({"factors": factors}, sort_keys=True).encode()} if factors else None
    return pa.Table.from_pylist(rows, schema=TRUTH.with_metadata(metadata))
