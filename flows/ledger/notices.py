"""Tell people: one message to the service that `NEEDLEDROP_WEBHOOK_URL` names, once for each key.

The address holds a secret: it is in no message, no log and on no command line.
"""

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Table, Text, delete, insert, select, update

from flows.ledger.database import TABLES, transaction
from flows.ledger.errors import LedgerError
from flows.workspace.platform import Platform

NOTICES: Final = Table(
    "notices",
    TABLES,
    Column("key", Text, primary_key=True),
    Column("at", Text, nullable=False),
    Column("state", Text, nullable=False),  # sending, sent
)
_DELIVER = Path(__file__).with_name("deliver.py")
_LIMIT_S = 30.0  # for all tries together, and the start of what tries
_ABANDONED = timedelta(minutes=10)
"""Age at which a notice that is still being sent belongs to a process that died."""

log = logging.getLogger(__name__)


def send(platform: Platform, text: str, key: str) -> bool:
    """Send a message, unless one with the same key was sent; return whether it went out now.

    Nothing that goes wrong here fails the caller: it is logged as a warning, and the key stays free.

    Args:
        platform: names the webhook; without one nothing is sent.
        text: plain text, or Slack's markup.
        key: what the message is about, such as `drift/<digest>`.

    Raises:
        LeaseLost: the caller works under a lease that it has no more.
    """
    if platform.environment.webhook_url is None:
        return False
    try:
        if not claim(platform, key):
            return False
        problem = _post(platform.environment.webhook_url.get_secret_value(), text)
        close(platform, key, done=problem is None)
    except LedgerError as error:
        problem = str(error)
    if problem:
        log.warning("the notification %s was not sent: %s", key, problem)
    return problem is None


def claim(platform: Platform, key: str) -> bool:
    """Return whether `key` is free, and take it: what is told about it is told by the caller alone.

    Raises:
        LedgerError: the ledger does not answer.
    """
    now = datetime.now(UTC)
    with transaction(platform) as connection:
        row = connection.execute(select(NOTICES).where(NOTICES.c.key == key)).first()
        if row is not None:
            if row.state == "sent" or now - datetime.fromisoformat(row.at) < _ABANDONED:
                return False
            connection.execute(delete(NOTICES).where(NOTICES.c.key == key))
        connection.execute(insert(NOTICES).values(key=key, at=now.isoformat(timespec="seconds"), state="sending"))
    return True


def close(platform: Platform, key: str, done: bool) -> None:
    """Note that `key` was told, or give it back."""
    with transaction(platform) as connection:
        if done:
            connection.execute(update(NOTICES).where(NOTICES.c.key == key).values(state="sent"))
        else:
            connection.execute(delete(NOTICES).where(NOTICES.c.key == key))


def _post(url: str, text: str) -> str | None:
    """Send the message; return what went wrong, in words that do not hold the address."""
    words = [sys.executable, "-P", str(_DELIVER)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as sender:
        try:
            said, _ = sender.communicate(json.dumps({"url": url, "text": text}).encode(), timeout=_LIMIT_S)
            problem: str | None = json.loads(said)
        except subprocess.TimeoutExpired:
            problem = f"the webhook did not answer within {_LIMIT_S:g} s"
        except ValueError:
            problem = "it could not be sent"
        finally:
            sender.kill()  # where it goes on, it is a slow service that we leave
    return problem
