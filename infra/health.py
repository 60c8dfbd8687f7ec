"""Small questions over HTTP, with a password where one is needed."""

import base64
import json
import urllib.error
import urllib.request
from typing import Any

_TIMEOUT_S = 5.0


def ask(url: str, user: str = "", password: str = "", body: Any = None) -> Any:
    """Return the answer, read as JSON where it is; posts `body` where one is given.

    Raises:
        OSError: no answer, or one that is not 2xx (`urllib.error.HTTPError`).
    """
    request = urllib.request.Request(url)  # noqa: S310 - addresses of our own servers
    if user:
        request.add_header("Authorization", f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
        text = reply.read().decode()
    try:
        return json.loads(text)
    except ValueError:
        return text


def problem(url: str, user: str = "", password: str = "", body: Any = None) -> str | None:
    """Why `url` does not answer well, in words; None when it does."""
    try:
        ask(url, user, password, body)
    except urllib.error.HTTPError as error:
        return f"it answers {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error).lower()
    return None
