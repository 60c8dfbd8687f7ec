"""What is tagged: a part of a media file, and the key of its content."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import tables


@dataclass(frozen=True)
class Clip:
    """A part of a file, from ``start_s`` to ``end_s``."""

    clip_id: str
    uri: str
    sha256: str
    start_s: float
    end_s: float

    @property
    def key(self) -> str:
        """Return the sha256 of what is heard. The path is no part of it: a moved file sounds the same."""
        return hashlib.sha256(json.dumps([self.sha256, self.start_s, self.end_s]).encode()).hexdigest()


def as_clip(row: Mapping[str, Any]) -> Clip:
    """Return a row of the manifest or of the seed library as a clip."""
    return Clip(row["clip_id"], row["uri"], row["sha256"], row["start_s"], row["end_s"])


def read_clips(manifest: Path) -> list[Clip]:
    """Return the manifest's clips.

    Raises:
        ValueError: a column is missing; file and column are named.
    """
    return [as_clip(row) for row in tables.read_rows(manifest, tables.MANIFEST)]
