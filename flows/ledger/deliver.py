"""Hand one message to the service that an address names; a program of its own, so that it can be ended.

Libraries limit each read, not the whole: a service that answers a byte a second would hold its caller for ever. The
address holds a secret, so it comes by standard input, as JSON with the text; what is answered there holds none of it.
"""

import json
import logging
import re
import sys
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from apprise import Apprise, NotifyFormat
from apprise.plugins.custom_json import NotifyJSON
from tenacity import RetryError, Retrying, retry_if_result, stop_after_attempt, wait_exponential

_TRIES = 3
_HTTP_ERROR = re.compile(r"error=(\d{3})\b")
_FINAL = re.compile(r"4(?!29)\d\d")  # asking again would be answered the same


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
        text: plain text, or the service's markup.
    """
    service = _service(url)
    if service is None:
        return "NEEDLEDROP_WEBHOOK_URL is neither a web address nor one of those that apprise knows"
    log = logging.getLogger("apprise")
    log.propagate = False
    log.addHandler(codes := _Codes())

    def once() -> bool:
        codes.code = ""
        return bool(service.notify(body=text, body_format=NotifyFormat.TEXT))

    def may_pass(sent: bool) -> bool:
        return not sent and not _FINAL.fullmatch(codes.code)

    tries = Retrying(stop=stop_after_attempt(_TRIES), wait=wait_exponential(), retry=retry_if_result(may_pass))
    try:
        if tries(once):
            return None
    except RetryError:
        pass
    return f"the webhook answered {codes.code}" if codes.code else "the webhook does not answer, or refuses"


def _service(url: str) -> Any:
    """Return what sends to an address; None where nothing can."""
    service = Apprise.instantiate(url)
    parts = urlsplit(url)
    # Slack's own form is spoken by others too, and by apprise with colours and pictures around the words.
    if parts.scheme not in ("http", "https") or (service is not None and service.secure_protocol != "slack"):
        return service
    if not parts.hostname:
        return None
    left_out = dict.fromkeys(("title", "type", "version", "attachments"), "")
    return NotifyJSON(  # type: ignore[no-untyped-call]
        secure=parts.scheme == "https",
        host=parts.hostname,
        port=parts.port,
        user=parts.username,
        password=parts.password,
        fullpath=parts.path or "/",
        params=dict(parse_qsl(parts.query, keep_blank_values=True)),
        payload={"message": "text", **left_out},
    )


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    try:
        problem = deliver(asked["url"], asked["text"])
    except Exception as error:  # whatever it is, its own words may hold the address
        problem = f"it could not be sent ({type(error).__name__})"
    print(json.dumps(problem))
