"""Tell people what happened: one message for one event, to the service that `NEEDLEDROP_WEBHOOK_URL` names.

An event is noted in the ledger, where that can be in the transaction that makes it happen, and told by whoever passes by
next: the process that noted it, or another where that one died or the service was away. Its key tells an event from
others, so it is told once, whoever finds it. A service that is away is asked less and less often, for a day.

The address holds a secret: it is in no message, no log and on no command line.
"""

import hashlib
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Integer, Table, Text, delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from flows.environment import retrying, without_secrets
from flows.ledger.database import TABLES, reading, transaction
from flows.ledger.errors import LedgerAway, LedgerBusy, LedgerError
from flows.workspace.platform import Platform

NOTICES: Final = Table(
    "notices",
    TABLES,
    Column("key", Text, primary_key=True),
    Column("at", Text, nullable=False),  # of its state
    Column("state", Text, nullable=False),  # waiting, sending, sent
    Column("text", Text),  # none: something else that is done once, see `claim`
    Column("tries", Integer, nullable=False, server_default="0"),  # that failed
    Column("noted", Text),
)
DAY: Final = timedelta(days=1)
"""For how long a notice is tried, and after which something that goes on is told again."""

_DELIVER = Path(__file__).with_name("deliver.py")
_LIMIT_S = 30.0  # that one process waits, in all, for a service that does not answer or refuses
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)  # between two tries; it doubles
_AWAY = timedelta(minutes=5)  # for which a service that failed is not asked about anything
_ABANDONED = timedelta(minutes=10)
"""Age at which a notice that is still being sent belongs to a process that died."""
_PATIENCE_S = 20.0  # for the ledger, once a notice is out
_LONGEST = 2000  # characters of a message
_NUMBER = re.compile(r"\w*\d\w*")

log = logging.getLogger(__name__)


@dataclass
class _Patience:
    """What is left of the time that this process may lose."""

    left_s: float


_patience = _Patience(_LIMIT_S)


def note(connection: Connection, key: str, text: str, again: timedelta | None = None) -> None:
    """Note an event that is to be told; one that is known is not told again, and gets the new text while it waits.

    Args:
        connection: inside `ledger.transaction`.
        key: what it is about, such as `drift/<digest>`.
        text: plain text, the first line a headline; what looks like a secret of this process is left out.
        again: after which it is told again, if it goes on.
    """
    now, row = datetime.now(UTC), connection.execute(select(NOTICES).where(NOTICES.c.key == key)).first()
    shown = _shortened(without_secrets(text))
    fresh = {"at": _text(now), "state": "waiting", "text": shown, "tries": 0, "noted": _text(now)}
    ours = NOTICES.c.key == key
    # Where no process has an address, nobody gives them up.
    never = NOTICES.c.text.is_not(None) & (NOTICES.c.state == "waiting") & (NOTICES.c.noted < _text(now - 2 * DAY))
    _set_right(connection, now)
    connection.execute(delete(NOTICES).where(never))
    if row is None:
        connection.execute(insert(NOTICES).values(key=key, **fresh))
    elif row.state == "waiting":
        connection.execute(update(NOTICES).where(ours).values(text=shown))
    elif row.state == "sent" and again is not None and _apart(row, now) >= again:
        connection.execute(update(NOTICES).where(ours).values(**fresh))


def _shortened(text: str) -> str:
    """A text that a service takes; its last line, the link, stays."""
    if len(text) <= _LONGEST:
        return text
    head, _, link = text.rpartition("\n")
    return f"{head[: _LONGEST - len(link) - 5]} ...\n{link}" if len(link) < _LONGEST / 2 else text[:_LONGEST]


def forget(connection: Connection, prefix: str, but: str | None = None) -> None:
    """Let what was told under keys that begin with `prefix` be news again, `but` that one key."""
    told = NOTICES.c.key.startswith(prefix, autoescape=True) & (NOTICES.c.state == "sent")
    connection.execute(delete(NOTICES).where(told if but is None else told & (NOTICES.c.key != but)))


def alike(reason: str) -> str:
    """Return a digest that is the same for reasons which differ in numbers, times and ids only."""
    return hashlib.sha256(_NUMBER.sub("#", reason).encode()).hexdigest()[:16]


def send(platform: Platform, text: str, key: str) -> bool:
    """Note an event and tell what waits; return whether this one went out now.

    Nothing that goes wrong here fails the caller: it is logged as a warning, and the notice waits.

    Raises:
        LeaseLost: the caller works under a lease that it has no more.
    """
    try:
        with transaction(platform) as connection:
            note(connection, key, text)
    except LedgerError as error:
        _warn("the notice %s was not noted: %s", key, error)
        return False
    return key in pass_by(platform)


def pass_by(platform: Platform) -> Sequence[str]:
    """Tell what waits, until a service refuses or the time is up; return the keys of what went out.

    Nothing that goes wrong here fails the caller: it is logged as a warning, and the notice waits for whoever passes by next.

    Raises:
        LeaseLost: the caller works under a lease that it has no more.
    """
    address, told = platform.environment.webhook_url, list[str]()
    if address is None:
        return told
    began = time.monotonic()
    try:
        while (left_s := min(_patience.left_s, _LIMIT_S - (time.monotonic() - began))) >= 1:
            if (row := _take(platform)) is None:
                break
            asked = time.monotonic()
            problem = _post(address.get_secret_value(), row.text, left_s)
            _record(platform, row, sent=problem is None)
            if problem is not None:
                _patience.left_s -= time.monotonic() - asked
                _warn("the notice %s was not sent: %s; it waits for the next run or command", row.key, problem)
                break
            told.append(row.key)
    except LedgerError as error:
        _warn("notices wait: %s", error)
    return told


def _take(platform: Platform) -> Row[Any] | None:
    """Take the notice that is due; None where there is none, or the service was away a moment ago."""
    with reading(platform) as connection:
        if _due(connection) is None:
            return None
    with transaction(platform) as connection:
        now = datetime.now(UTC)
        _set_right(connection, now)
        old = (NOTICES.c.text.is_not(None)) & (NOTICES.c.state == "waiting") & (NOTICES.c.noted < _text(now - DAY))
        for row in connection.execute(select(NOTICES.c.key).where(old)):
            _warn("the notice %s is given up: it could not be sent for a day", row.key)
        connection.execute(delete(NOTICES).where(old))
        if (due := _due(connection)) is not None:
            taken = {"state": "sending", "at": _text(now)}
            connection.execute(update(NOTICES).where(NOTICES.c.key == due.key).values(**taken))
        return due


def _due(connection: Connection) -> Row[Any] | None:
    """The notice to try next: those that failed least, then the oldest, each after its pause."""
    now = datetime.now(UTC)
    ours = NOTICES.c.text.is_not(None)
    rows = connection.execute(select(NOTICES).where(ours & NOTICES.c.state.in_(("waiting", "sending")))).all()
    waiting = [row for row in rows if row.state == "waiting" or _apart(row, now) >= _ABANDONED]
    failed = max((row for row in waiting if row.tries), key=lambda row: str(row.at), default=None)
    if failed is not None and _apart(failed, now) < min(_pause(failed.tries), _AWAY):
        about = _text(datetime.fromisoformat(failed.at) - _FIRST_PAUSE)
        later = ours & (NOTICES.c.state == "sent") & (NOTICES.c.at > about)
        if connection.execute(select(NOTICES.c.key).where(later).limit(1)).first() is None:
            return None  # the service is away, not this one message refused
    ready = [row for row in waiting if not row.tries or _apart(row, now) >= _pause(row.tries)]
    return min(ready, key=lambda row: (row.tries, str(row.noted)), default=None)


def _apart(row: Row[Any], now: datetime) -> timedelta:
    """The time between now and the last change of a notice; one that lies ahead, after a clock was put back, ends too."""
    return abs(now - datetime.fromisoformat(row.at))


def _set_right(connection: Connection, now: datetime) -> None:
    """Let what a clock that was ahead has noted count from now; else it would be tried until that day comes."""
    ahead = NOTICES.c.noted > _text(now + _ABANDONED)
    connection.execute(update(NOTICES).where(ahead).values(noted=_text(now)))


def _pause(tries: int) -> timedelta:
    """How long to wait after so many tries."""
    return min(_FIRST_PAUSE * (1 << min(tries - 1, 16)), _LONGEST_PAUSE)


def _record(platform: Platform, row: Row[Any], sent: bool) -> None:
    """Write that it was told, or let it wait.

    It has happened, whatever lease was lost meanwhile; and a ledger that is away for a moment must not let it be told twice.
    """
    now = _text(datetime.now(UTC))
    values = {"state": "sent", "at": now} if sent else {"state": "waiting", "at": now, "tries": row.tries + 1}

    def write() -> None:
        with transaction(platform, fenced=False) as connection:
            connection.execute(update(NOTICES).where(NOTICES.c.key == row.key).values(**values))

    retrying(_PATIENCE_S, LedgerAway, LedgerBusy)(write)


# -- what else is done once ------------------------------------------------------------------------


def claim(platform: Platform, key: str) -> bool:
    """Return whether `key` is free, and take it: what is done about it is done by the caller alone.

    Raises:
        LedgerError: the ledger does not answer.
    """
    now = datetime.now(UTC)
    with transaction(platform) as connection:
        row = connection.execute(select(NOTICES).where(NOTICES.c.key == key)).first()
        if row is not None:
            if row.state == "sent" or _apart(row, now) < _ABANDONED:
                return False
            connection.execute(delete(NOTICES).where(NOTICES.c.key == key))
        connection.execute(insert(NOTICES).values(key=key, at=_text(now), state="sending"))
    return True


def close(platform: Platform, key: str) -> None:
    """Note that what was claimed is done."""
    with transaction(platform) as connection:
        connection.execute(update(NOTICES).where(NOTICES.c.key == key).values(state="sent"))


def _warn(words: str, *values: object) -> None:
    """Say it where the process logs, and in the log of the run that it is in."""
    log.warning(words, *values)
    if "prefect" in sys.modules:
        from prefect.exceptions import MissingContextError
        from prefect.logging import get_run_logger

        with suppress(MissingContextError):
            get_run_logger().warning(words, *values)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _post(url: str, text: str, limit_s: float) -> str | None:
    """Send the message; return what went wrong, in words that do not hold the address."""
    words = [sys.executable, "-P", str(_DELIVER)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as sender:
        try:
            said, _ = sender.communicate(json.dumps({"url": url, "text": text}).encode(), timeout=limit_s)
            problem: str | None = json.loads(said)
        except subprocess.TimeoutExpired:
            problem = f"the service did not answer within {limit_s:.0f} s"
        except ValueError:
            problem = "it could not be sent"
        finally:
            sender.kill()  # where it goes on, it is a slow service that we leave
    return problem
