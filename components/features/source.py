"""What features are made from: a part of a media file, or a text, and the key of its content."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import tables
from components.modalities import TEXT, Modality

_MEDIA_COLUMNS = ("clip_id", "uri", "sha256", "start_s", "end_s")
_TEXT_COLUMNS = ("clip_id", "text")


@dataclass(frozen=True)
class Source:
    """One clip's input. Media sources have ``uri`` and times, text sources have ``text``."""

    clip_id: str
    key: str
    uri: str = ""
    start_s: float = 0.0
    end_s: float = 0.0
    text: str = ""

    @property
    def name(self) -> str:
        """What a quarantine row calls it."""
        return self.uri or self.clip_id


def read_sources(path: Path, modality: Modality) -> list[Source]:
    """Read the inputs of one modality from a table of clips (media) or of texts.

    Raises:
        ValueError: the table lacks a column; file and column are named.
    """
    columns = _TEXT_COLUMNS if modality == TEXT else _MEDIA_COLUMNS
    table = tables.read_table(path)
    for column in columns:
        if column not in table.column_names:
            raise ValueError(f"{path}: column '{column}' is missing; {modality} features need {', '.join(columns)}")
    rows: list[dict[str, Any]] = table.select(columns).to_pylist()
    return [_text_source(row) if modality == TEXT else _media_source(row) for row in rows]


def _media_source(row: dict[str, Any]) -> Source:
    # The path is not part of the key: a moved file has the same features.
    key = _digest(row["sha256"], row["start_s"], row["end_s"])
    return Source(row["clip_id"], key, uri=row["uri"], start_s=row["start_s"], end_s=row["end_s"])


def _text_source(row: dict[str, Any]) -> Source:
    return Source(row["clip_id"], _digest(row["text"]), text=row["text"])


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()
