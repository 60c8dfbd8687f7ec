"""Rows of a CSV file that anyone may have written: one record at a time, each with its line number."""

import csv
import io
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

_MOST_LINES: Final = 100  # of one record; a quote that stays open longer is a mistake
_SHOWN: Final = 60  # characters of a bad value


class RowError(ValueError):
    """One row cannot be used: ``reason`` is a quarantine code, ``detail`` says what is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep both parts."""
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Row:
    """A record: its first line (1 is the header) and its values by column, or why it has none."""

    line: int
    values: dict[str, str]
    error: RowError | None = None


def read_csv(path: Path, columns: tuple[str, ...], may_have: tuple[str, ...] = ()) -> Iterator[Row]:
    """Yield every record after the header; blank lines are no records. Extra columns are ignored.

    Columns of ``may_have`` are read where the header has them; a record has no value for those it has not.

    A byte order mark and any line ends are fine, fields may be of any length. Wrong bytes, a wrong
    number of fields or a quote that is never closed spoil one row, not the file.

    Raises:
        ValueError: a column of ``columns`` is missing or stands twice; file and column are named.
    """
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")
    lines = list(io.StringIO(text, newline=""))
    header, start = _record(lines, 0)
    names = [name.strip() for name in header or []]
    for column in columns:
        if names.count(column) != 1:
            problem = "is missing" if column not in names else "stands twice"
            raise ValueError(
                f"{path}: column '{column}' {problem} in the header (line 1); it needs {', '.join(columns)}"
            )
    columns += tuple(column for column in may_have if names.count(column) == 1)
    while start < len(lines):
        line = start + 1
        fields, start = _record(lines, start)
        if fields is None:
            yield Row(line, {}, RowError("unclosed_quote", f"a quote is not closed within {_MOST_LINES} lines"))
        elif fields:
            yield _row(line, names, fields, columns)


def clean_text(text: str) -> str:
    """Return text in composed Unicode (NFC), without control characters, spaces collapsed."""
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(c if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs") else " " for c in composed)
    return " ".join(visible.split())


def shown(value: str) -> str:
    """Return a value as it may stand in a message: on one line, shortened."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def leads_out(name: str) -> bool:
    """Tell whether a name read as a path could leave its folder, on any system."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return "\0" in name or any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths)


def _row(line: int, names: list[str], fields: list[str], columns: tuple[str, ...]) -> Row:
    if any("\udc80" <= character <= "\udcff" for field in fields for character in field):
        return Row(line, {}, RowError("bad_encoding", "not UTF-8 text"))
    if len(fields) != len(names):
        return Row(line, {}, RowError("wrong_field_count", f"{len(fields)} fields, the header has {len(names)}"))
    values = dict(zip(names, fields, strict=True))
    return Row(line, {column: values[column] for column in columns})


def _record(lines: list[str], start: int) -> tuple[list[str] | None, int]:
    """Parse the record at ``start``; return its fields (None: open quote) and where the next one begins."""
    csv.field_size_limit(sys.maxsize)
    chunk = lines[start : start + _MOST_LINES]
    reader = csv.reader([*chunk, "end of the chunk\n"])
    try:
        fields = next(reader, [])
    except csv.Error:
        return None, start + 1
    if reader.line_num > len(chunk) and chunk:
        return None, start + 1
    return fields, start + max(1, reader.line_num)
