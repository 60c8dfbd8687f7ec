"""How long to wait before a request is sent again."""

import math
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_FIRST_PAUSE_S = 0.5


def pause_s(number: int, retry_after_s: float | None, longest_s: float) -> float:
    """Return the pause after try ``number`` (from 0), in seconds.

    Without a wish of the server's: exponential back-off with full jitter, any time up to a limit
    that doubles (M. Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015). With
    one: at least that, yet never longer than ``longest_s``.
    """
    jitter = random.uniform(0, min(longest_s, _FIRST_PAUSE_S * 2**number))
    return jitter if retry_after_s is None else min(longest_s, retry_after_s + jitter)


def retry_after_s(value: str, now: datetime) -> float | None:
    """Return a Retry-After header (RFC 9110, section 10.2.3: seconds or a date) in seconds from ``now``.

    None where it is neither.
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
