"""Hand one message to the service that an address names; a program of its own, so that it can be ended.

Libraries limit each read, not the whole: a service that answers a byte a second would hold its caller for ever. The
address holds a secret, so it comes by standard input, as JSON with the text; what is answered there holds none of it.
"""

import json
import logging
import re
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import requests
from apprise import Apprise, NotifyFormat
from tenacity import RetryError, Retrying, retry_if_result, stop_after_attempt, wait_exponential

_TRIES = 3
_READ_S = 10.0  # without a byte
_HTTP_ERROR = re.compile(r"error=(\d{3})\b")
_FINAL = re.compile(r"4(?!29)\d\d")  # asking again at once would be answered the same

Send = Callable[[], str | None]
"""Sends once; returns the HTTP status that it was refused with, nothing where there is none, None where it was taken."""


class _Codes(logging.Handler):
    """Keeps the HTTP status that a service refused with; the rest of what is logged may tell the address."""

    code = ""

    def emit(self, record: logging.LogRecord) -> None:
        found = _HTTP_ERROR.search(record.getMessage())
        self.code = found[1] if found else ""


def deliver(url: str, text: str) -> str | None:
    """Send `text`, again where that may help; return what went wrong, in words that do not hold the address.

    Args:
        url: of any service that apprise knows; a web address of another kind gets `{"text": ...}`, as Slack does.
        text: plain text; of several lines the first is the headline.
    """
    once = _sender(url, text)
    if once is None:
        return "NEEDLEDROP_WEBHOOK_URL is neither a web address nor one of those that apprise knows"

    def may_pass(refused: str | None) -> bool:
        return refused is not None and not _FINAL.fullmatch(refused)

    tries = Retrying(stop=stop_after_attempt(_TRIES), wait=wait_exponential(), retry=retry_if_result(may_pass))
    try:
        code = tries(once)
    except RetryError as error:
        code = error.last_attempt.result()
    if code is None:
        return None
    return f"the service answered {code}" if code else "the service does not answer, or refuses"


def _sender(url: str, text: str) -> Send | None:
    """Return what sends to an address; None where nothing can."""
    service = Apprise.instantiate(url)
    parts = urlsplit(url)
    # Slack's own form is spoken by others too, and by apprise with colours and pictures around the words.
    if parts.scheme in ("http", "https") and (service is None or service.secure_protocol == "slack"):
        return (lambda: _post(url, text)) if parts.hostname else None
    if service is None:
        return None
    log = logging.getLogger("apprise")
    log.propagate = False
    log.addHandler(codes := _Codes())
    title, _, rest = text.partition("\n")

    def once() -> str | None:
        codes.code = ""
        sent = service.notify(title=title if rest else "", body=rest or text, body_format=NotifyFormat.TEXT)
        return None if sent else codes.code

    return once


def _post(url: str, text: str) -> str | None:
    """Post it to a web address; its status tells whether it was taken, however long it takes to say more."""
    try:
        with requests.post(url, json={"text": text}, timeout=_READ_S, allow_redirects=False, stream=True) as answer:
            return None if answer.status_code // 100 == 2 else str(answer.status_code)
    except requests.RequestException:
        return ""


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    try:
        problem = deliver(asked["url"], asked["text"])
    except Exception as error:  # whatever it is, its own words may hold the address
        problem = f"it could not be sent ({type(error).__name__})"
    print(json.dumps(problem))
