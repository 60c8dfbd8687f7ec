"""Findings of earlier runs, so that an unchanged folder costs seconds. Safe to delete at any time.

The key is (uri, fingerprint, picture) plus a digest of the rules and of the code that applies them. New
findings are published in shards while the run goes on, so a kill loses at most one shard; at the end
all findings that are still of use become one file.
"""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from components.code import code_digest
from components.ingest.examine import Finding, examine
from components.ingest.params import Limits
from components.tables import write_table

Key = tuple[str, str, bool]  # uri, fingerprint, picture

_SHARD_ROWS: Final = 64
_UNCERTAIN: Final = ("timeout", "decoder_crash")  # the machine's state, perhaps, not the file's
_ARROW: Final = {int: pa.int64(), float: pa.float64(), str: pa.string(), bytes: pa.binary()}
_SCHEMA: Final = pa.schema(
    [
        pa.field("uri", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("with_picture", pa.bool_()),
        *(
            pa.field(f.name, next(t for kind, t in _ARROW.items() if kind.__name__ in str(f.type)))
            for f in fields(Finding)
        ),
    ]
)


def spec_digest(limits: Limits) -> str:
    """Digest of everything that a finding depends on besides the file."""
    return hashlib.sha256(f"{limits.model_dump_json()} {code_digest(examine)}".encode()).hexdigest()[:16]


class Cache:
    """A folder of Parquet shards whose names begin with the spec digest."""

    def __init__(self, folder: Path, spec: str) -> None:
        """Read what is there for ``spec``; a shard that cannot be read is as good as absent."""
        self._folder = folder
        self._spec = spec
        self._fresh: dict[Key, Finding] = {}
        self._known: dict[Key, Finding] = {}
        for shard in sorted(folder.glob(f"{spec}-*.parquet")):
            with suppress(pa.ArrowException, OSError, TypeError, KeyError):
                self._known.update(_rows(pq.ParquetFile(shard).read()))

    def get(self, key: Key) -> Finding | None:
        """Return the finding of an earlier run."""
        return self._known.get(key)

    def put(self, key: Key, finding: Finding) -> None:
        """Keep a new finding; every `_SHARD_ROWS` of them are published."""
        if finding.reason in _UNCERTAIN:
            return
        self._fresh[key] = self._known[key] = finding
        if len(self._fresh) >= _SHARD_ROWS:
            self._write(f"{self._spec}-new-{len(list(self._folder.glob('*.parquet'))):05d}.parquet", self._fresh)
            self._fresh = {}

    def close(self, keys: Iterable[Key]) -> None:
        """Make one file of the findings for ``keys`` and drop all others."""
        kept = {key: self._known[key] for key in keys if key in self._known}
        whole = self._write(f"{self._spec}-all.parquet", kept)
        for other in self._folder.glob("*.parquet"):
            if other != whole:
                other.unlink(missing_ok=True)

    def _write(self, name: str, findings: dict[Key, Finding]) -> Path:
        rows = [
            {"uri": uri, "fingerprint": mark, "with_picture": picture, **asdict(finding)}
            for (uri, mark, picture), finding in sorted(findings.items())
        ]
        write_table(self._folder / name, pa.Table.from_pylist(rows, schema=_SCHEMA))
        return self._folder / name


def _rows(table: pa.Table) -> dict[Key, Finding]:
    found: dict[Key, Finding] = {}
    row: dict[str, Any]
    for row in table.to_pylist():
        key = (row.pop("uri"), row.pop("fingerprint"), row.pop("with_picture"))
        found[key] = Finding(**row)
    return found
