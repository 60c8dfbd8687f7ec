"""Rows of published lists of described clips: ``video_id,start,end,text``, as YouTube8M-MusicTextClips has them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components.ingest.annotations import COLUMNS, seconds
from components.ingest.rows import Row, RowError, clean_text, read_csv, shown
from components.ingest.splits import SPLITS
from flows.annotations.cut import RECIPE

Refused = dict[str, Any]  # csv, line, video_id, reason, detail

# An id becomes a file's name, so it may be nothing else than one.
_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """A row that can be looked for."""

    csv: str
    line: int
    id: str
    start_s: float
    end_s: float
    text: str
    split: str  # empty: drawn by `ingest`

    @property
    def entry(self) -> dict[str, Any]:
        """The row as a frozen list knows it."""
        return {"id": self.id, "start": self.start_s, "end": self.end_s, "text": self.text, "split": self.split}

    @property
    def label(self) -> str:
        """What the file of the cut part says it was cut from."""
        return f"needledrop cut {RECIPE}: {self.id} {self.start_s:g} to {self.end_s:g} s"

    def refused(self, reason: str, detail: str) -> Refused:
        """Say why this row is not used."""
        return {"csv": self.csv, "line": self.line, "video_id": self.id, "reason": reason, "detail": detail}


def read_wanted(csvs: Sequence[Path]) -> tuple[list[Wanted], list[Refused], int]:
    """Read the rows of several CSVs; of several rows with one id the first is taken.

    Returns:
        The good rows, the others with reasons, and how many there were in all.
    """
    wanted: dict[str, Wanted] = {}
    refused: list[Refused] = []
    count = 0
    for path in csvs:
        split = split_of(path)
        try:
            for row in read_csv(path, COLUMNS):
                count += 1
                try:
                    one = _wanted(path, row, split)
                    first = wanted.setdefault(one.id, one)
                    if first is not one:
                        raise RowError("duplicate_id", f"{first.csv}:{first.line} already has this id")
                except RowError as error:
                    named = row.values.get("video_id", "").strip()
                    refused.append({"csv": str(path), "line": row.line, "video_id": named,
                                    "reason": error.reason, "detail": error.detail})  # fmt: skip
        except ValueError as error:
            refused.append({"csv": str(path), "line": 1, "video_id": "", "reason": "missing_column",
                            "detail": str(error)})  # fmt: skip
    return list(wanted.values()), refused, count


def split_of(path: Path) -> str:
    """Return the split that a file's name tells, as in ``test.csv`` or ``clips-train.csv``; else nothing."""
    words = re.split(r"[^a-z]+", path.stem.lower())
    return next((split for split in SPLITS if split in words), "")


def _wanted(path: Path, row: Row, split: str) -> Wanted:
    if row.error:
        raise row.error
    video_id, text = row.values["video_id"].strip(), clean_text(row.values["text"])
    if not _ID.fullmatch(video_id):
        raise RowError("bad_id", f"video_id {shown(video_id)} is no id (letters, digits, - and _)")
    start_s, end_s = seconds("start", row.values["start"]), seconds("end", row.values["end"])
    if end_s <= start_s:
        raise RowError("end_before_start", f"end {end_s:g} is not after start {start_s:g}")
    if not text:
        raise RowError("empty_text", "the text is empty")
    return Wanted(str(path), row.line, video_id, start_s, end_s, text, split)
