"""What can go wrong with the ledger, told apart by what a person can do about it.

By the class of the error and PostgreSQL's SQLSTATE or SQLite's code, never by words: a server speaks the
language that it is set to.
"""

import socket
import sqlite3
import struct
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DataError, DBAPIError, NotSupportedError, ProgrammingError

from flows.environment import redact
from flows.errors import BUSY, Refusal

_UNCHANGED: Final = "nothing was changed"
_READ_ONLY: Final = {"25006", sqlite3.SQLITE_READONLY}


class LedgerError(Refusal):
    """The ledger's database cannot do what it was asked."""


class LedgerAway(LedgerError):
    """It does not answer, or not in time; what was asked is not done. Later it may be."""


class CommitUnknown(LedgerAway):
    """It fell silent while it was asked to keep what was written: that may be done, or not."""


class LedgerBusy(LedgerError):
    """Others write, for longer than one waits; nothing was changed."""

    code = BUSY


class LedgerRefused(LedgerError):
    """A rule of the database forbids it, such as one champion at most; nothing was changed."""


class LedgerDenied(LedgerError):
    """Its address, its file or our rights there are wrong: asking again is no use."""


class LedgerNewer(LedgerError):
    """A newer release of this project has changed its tables; nothing was changed."""


def told_apart(url: str, error: DBAPIError, connecting: bool = False, reads: bool = False) -> LedgerError | None:
    """Return what an error of the database means; None where it is a mistake of ours.

    Args:
        url: of the ledger.
        error: as SQLAlchemy raises it.
        connecting: it came before there was a connection.
        reads: it came where nothing may be written, so that a refusal to write is a mistake of ours.
    """
    said = " ".join(str(error.orig or error).split())[:300]
    where = f"the ledger at {redact(url)}"
    kind = _of_sqlite(error.orig) if isinstance(error.orig, sqlite3.Error) else _of_server(url, error, connecting)
    if reads and _READ_ONLY & {getattr(error.orig, "pgcode", None), getattr(error.orig, "sqlite_errorcode", None)}:
        return None
    if kind is LedgerAway:
        return LedgerAway(f"{where} does not answer ({said}); {_UNCHANGED}: run it again when it does")
    if kind is LedgerBusy:
        return LedgerBusy(f"{where} is busy ({said}); {_UNCHANGED}: run it again")
    if kind is LedgerRefused:
        return LedgerRefused(f"{where} refuses: {said}; {_UNCHANGED}")
    if kind is LedgerDenied:
        return LedgerDenied(f"{where} cannot be used: {said}; {_UNCHANGED}: see NEEDLEDROP_LEDGER_URL")
    return None


def unusable(url: str, error: Exception) -> LedgerDenied:
    """What it means that there is no way to such a database at all: no driver, or no URL."""
    said = " ".join(str(error).split())[:300]
    return LedgerDenied(f"the ledger at {redact(url)} cannot be used: {said}; {_UNCHANGED}: see NEEDLEDROP_LEDGER_URL")


def unknown_commit(url: str, error: Exception) -> CommitUnknown:
    """What it means that the answer to a COMMIT was lost."""
    said = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
    return CommitUnknown(
        f"the ledger at {redact(url)} fell silent while it was written ({said}); whether it was written is not known: "
        "look with `needledrop release show` or `needledrop audit show`, or run the same again"
    )


def _of_sqlite(error: sqlite3.Error) -> type[LedgerError] | None:
    if isinstance(error, sqlite3.IntegrityError):
        return LedgerRefused
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF  # the rest says which kind of it
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerBusy
    if primary in (
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
    ):  # fmt: skip
        return LedgerDenied
    return None


# Of an SQLSTATE the first two characters are a class.
_AWAY = ("08", "53", "57P01", "57P02", "57P03", "57P05", "58", "25P03")
_BUSY = ("55P03", "57014", "40001", "40P01")
_REFUSED = ("23", "P0001")
_DENIED = ("28", "3D000", "42501", "25006")


def _of_server(url: str, error: DBAPIError, connecting: bool) -> type[LedgerError] | None:
    state = getattr(error.orig, "pgcode", None)
    if state is None and connecting:
        state = said_at_the_door(make_url(url))
        if state == "":  # it would have let us go on: what came after was refused
            return LedgerDenied
    if state is None:  # the connection broke: whatever a server says has a state
        return None if isinstance(error, ProgrammingError | NotSupportedError | DataError) else LedgerAway
    for kind, states in ((LedgerAway, _AWAY), (LedgerBusy, _BUSY), (LedgerRefused, _REFUSED), (LedgerDenied, _DENIED)):
        if str(state).startswith(states):
            return kind
    return None


def said_at_the_door(url: URL, within_s: float = 3.0) -> str | None:
    """Return what a PostgreSQL server answers to who wants to come in.

    libpq keeps the SQLSTATE of a connection that failed to itself, so the first message of the protocol is
    sent by hand: it needs no password.

    Returns:
        An SQLSTATE; nothing where it asks who we are, as a server that is well does; None where it is silent.
    """
    if not url.host:
        return None
    words = b"".join(
        word.encode() + b"\0" for word in ("user", url.username or "", "database", url.database or url.username or "")
    )
    try:
        with socket.create_connection((url.host, url.port or 5432), timeout=within_s) as door:
            door.sendall(struct.pack("!ii", 9 + len(words), 196608) + words + b"\0")
            answer = door.recv(4096)
    except OSError:
        return None
    if not answer.startswith(b"E"):
        return "" if answer else None
    states = [field[1:] for field in answer[5:].split(b"\0") if field.startswith(b"C")]
    return states[0].decode("ascii", "replace") if states else None
