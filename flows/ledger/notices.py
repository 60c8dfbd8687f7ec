"""Tell people: one message to a Slack-compatible webhook, once for each key.

The address holds a secret. It is in no message of ours, and the client used here writes no log.
"""

import json
import logging
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Column, Table, Text, delete, insert, select, update

from flows.errors import Refusal
from flows.ledger.database import TABLES, transaction
from flows.workspace.platform import Platform

NOTICES: Final = Table(
    "notices",
    TABLES,
    Column("key", Text, primary_key=True),
    Column("at", Text, nullable=False),
    Column("state", Text, nullable=False),  # sending, sent
)
_TIMEOUT_S = 5.0
_PAUSES_S = (0.0, 1.0, 3.0)  # before each try
_ABANDONED = timedelta(minutes=10)
"""Age at which a notice that is still being sent belongs to a process that died."""

log = logging.getLogger(__name__)


def send(platform: Platform, text: str, key: str) -> bool:
    """Send a message, unless one with the same key was sent; return whether it went out now.

    Nothing here fails the caller: what goes wrong is logged as a warning, and the key stays free.

    Args:
        platform: names the webhook; without one nothing is sent.
        text: plain text, or Slack's markup.
        key: what the message is about, such as `drift/<digest>`.
    """
    if platform.environment.webhook_url is None:
        return False
    try:
        if not claim(platform, key):
            return False
        problem = _post(platform.environment.webhook_url.get_secret_value(), text)
        settle(platform, key, done=problem is None)
    except Refusal as error:  # the ledger does not answer
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


def settle(platform: Platform, key: str, done: bool) -> None:
    """Note that `key` was told, or give it back."""
    with transaction(platform) as connection:
        if done:
            connection.execute(update(NOTICES).where(NOTICES.c.key == key).values(state="sent"))
        else:
            connection.execute(delete(NOTICES).where(NOTICES.c.key == key))


def _post(url: str, text: str) -> str | None:
    """Post the message; return what went wrong, in words that do not hold the address."""
    if not url.startswith(("https://", "http://")):
        return "NEEDLEDROP_WEBHOOK_URL is no http address"
    body = json.dumps({"text": text}).encode()
    problem = None
    for pause in _PAUSES_S:
        time.sleep(pause)
        try:
            asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 checked above
            with urllib.request.urlopen(asked, timeout=_TIMEOUT_S):  # noqa: S310
                return None
        except urllib.error.HTTPError as error:
            problem = f"the webhook answered {error.code}"
            if error.code < 500 and error.code != 429:  # asking again would be answered the same
                return problem
        except Exception as error:  # whatever it is, its own words may hold the address
            problem = f"the webhook does not answer ({type(error).__name__})"
    return problem
