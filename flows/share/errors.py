"""Why a transfer failed: DVC counts failures and writes their causes to its log only."""

import logging
from types import TracebackType
from typing import Self

from flows.registry.hints import AWS_KEYS, SIGNS, hint

_LOGGERS = ("dvc", "dvc_data", "dvc_objects")
_AGAIN = "run it again: what arrived is kept"
_FINAL = {
    "NoSuchBucket": "make the bucket, or see NEEDLEDROP_DVC_REMOTE",
    "FileNotFoundError": "the remote lacks it: run `needledrop push` where it was made",
    **dict.fromkeys(SIGNS[AWS_KEYS], AWS_KEYS),
}


class Causes(logging.Handler):
    """Keeps the first cause that DVC logs while it is entered, and keeps DVC's tracebacks off the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first: Exception | None = None
        self._before: dict[str, tuple[bool, list[logging.Handler]]] = {}

    @property
    def of_transport(self) -> tuple[type[Exception], ...]:
        """What the network and the service raise, once DVC does not catch it."""
        from botocore.exceptions import BotoCoreError, ClientError

        return (BotoCoreError, ClientError, OSError)

    def emit(self, record: logging.LogRecord) -> None:
        """Take the exception of a log line."""
        if self.first is None and record.exc_info and isinstance(record.exc_info[1], Exception):
            self.first = record.exc_info[1]

    def __enter__(self) -> Self:
        """Stand in for DVC's own handlers."""
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._before[name] = (logger.propagate, logger.handlers)
            logger.propagate, logger.handlers = False, [self]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Put them back."""
        for name, (propagate, handlers) in self._before.items():
            logger = logging.getLogger(name)
            logger.propagate, logger.handlers = propagate, handlers

    def passing(self, problem: BaseException) -> bool:
        """Tell whether the same request may succeed a moment later."""
        return not isinstance(problem, PermissionError | FileNotFoundError) and self.next_step(problem) == _AGAIN

    def next_step(self, problem: BaseException) -> str:
        """What the user can do about it."""
        text = " ".join(f"{type(one).__name__} {one}" for one in _chain(problem))
        return next((step for word, step in _FINAL.items() if word in text), _AGAIN)

    def advice(self, problem: BaseException) -> str:
        """The next step, with what may have to be looked at first."""
        text = " ".join(str(one) for one in _chain(problem))
        step, first = self.next_step(problem), hint(text)
        return f"{first}, then {step}" if step == _AGAIN and first else step

    def words(self, problem: BaseException) -> str:
        """The cause in one line."""
        last = _chain(problem)[-1]
        return " ".join(str(last).split())[:300] or type(last).__name__


def _chain(problem: BaseException) -> list[BaseException]:
    found = [problem]
    while (cause := found[-1].__cause__) is not None:
        found.append(cause)
    return found
