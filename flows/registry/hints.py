"""What to do about an error of a server, told from the server's own words."""

from typing import Final

AWS_KEYS: Final = "see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
SIGNS: Final = {
    AWS_KEYS: ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden", "credentials"),
    "see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD": (
        "error code 401", "not authenticated", "Unauthorized",
    ),
    "make the bucket, or name another": ("NoSuchBucket",),
    "the S3 service cannot store: look whether its disk is full": (
        "ServiceUnavailable", "Service Unavailable", "InsufficientStorage", "Insufficient Storage", "No space left",
    ),
}  # fmt: skip
"""Words of a server that name a cause, by what to do about it."""


def hint(words: str) -> str | None:
    """Return the next step, or None where the words name nothing that is known."""
    return next((step for step, signs in SIGNS.items() if any(sign in words for sign in signs)), None)


_AWAY = (
    "Could not connect", "Connection refused", "Connection reset", "Connection aborted", "connection was closed", "timed out",
    "timeout", "Max retries exceeded", "ServiceUnavailable", "Service Unavailable", "SlowDown", "InternalError",
)  # fmt: skip


def is_away(words: str) -> bool:
    """Tell whether the words speak of a server that does not answer now, and not of something that is missing."""
    return any(sign in words for sign in _AWAY)
