"""The audit log: rows that are only ever added, each sealed over the one before.

The database refuses to change or delete a row; who gets around that breaks the chain of hashes, and
`verify` names the row. A row is written in the transaction that does what it tells of.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Column, Index, Integer, Table, Text, insert, select
from sqlalchemy.engine import Connection, Row

from flows.errors import Refusal
from flows.ledger.database import TABLES

AUDIT: Final = Table(
    "audit",
    TABLES,
    Column("number", Integer, primary_key=True, autoincrement=False),  # 1, 2, 3, ... without a gap
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("version", Integer),
    Column("detail", Text, nullable=False),  # canonical JSON
    Column("before", Text, nullable=False),  # hash of the row before; GENESIS for the first
    Column("hash", Text, nullable=False),
)  # which the database lets nobody change or delete; see flows/ledger/migrations
Index("audit_by_version", AUDIT.c.version)
GENESIS: Final = "0" * 64


class Tampered(Refusal):
    """The audit log is not what was written."""


@dataclass(frozen=True)
class Entry:
    """One row of the log."""

    number: int
    at: str
    actor: str
    action: str
    version: int | None
    detail: dict[str, Any]
    hash: str


def append(connection: Connection, actor: str, action: str, version: int | None, detail: dict[str, Any]) -> int:
    """Add a row and return its number.

    Args:
        connection: inside `ledger.transaction`: writers take turns, so the chain cannot fork.
        actor: who.
        action: what, in one word.
        version: of which model version; None where it is about none.
        detail: plain values.
    """
    last = connection.execute(select(AUDIT.c.number, AUDIT.c.hash).order_by(AUDIT.c.number.desc()).limit(1)).first()
    number, before = (last.number + 1, last.hash) if last else (1, GENESIS)
    row = {
        "number": number,
        "at": now(),
        "actor": actor,
        "action": action,
        "version": version,
        "detail": json.dumps(detail, sort_keys=True, separators=(",", ":")),
    }
    connection.execute(insert(AUDIT).values(**row, before=before, hash=_seal(before, row)))
    return int(number)


def entries(connection: Connection, version: int | None = None) -> list[Entry]:
    """Return the rows, oldest first; those of one version when it is given."""
    asked = select(AUDIT).order_by(AUDIT.c.number)
    if version is not None:
        asked = asked.where(AUDIT.c.version == version)
    return [_entry(row) for row in connection.execute(asked)]


def verify(connection: Connection) -> int:
    """Walk the chain and return how many rows it has.

    A log whose end was cut off is a shorter whole chain; `check.check` finds that.

    Raises:
        Tampered: a row is missing or is not what was written; the message names the first one.
    """
    before, number = GENESIS, 0
    for row in connection.execute(select(AUDIT).order_by(AUDIT.c.number)):
        number += 1
        if row.number != number:
            raise Tampered(f"audit log: row {number} is missing; {_ADVICE}")
        written = {name: getattr(row, name) for name in ("number", "at", "actor", "action", "version", "detail")}
        if row.before != before or row.hash != _seal(before, written):
            raise Tampered(f"audit log: row {number} ({row.action}, {row.at}) was changed; {_ADVICE}")
        before = row.hash
    return number


def now() -> str:
    """The time, as ISO 8601 UTC text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_ADVICE = "trust nothing after it: restore the ledger from a backup and see who could write to its database"


def _seal(before: str, row: dict[str, Any]) -> str:
    return hashlib.sha256((before + json.dumps(row, sort_keys=True, separators=(",", ":"))).encode()).hexdigest()


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.number, row.at, row.actor, row.action, row.version, json.loads(row.detail), row.hash)
