"""Exit codes of `needledrop`, and the one exception that carries them to the command line."""

OK = 0
ERROR = 1
USAGE = 2
GATE_FAILED = 3
INCONCLUSIVE = 4
BUSY = 5

VERDICT_CODES = {"passed": OK, "failed": GATE_FAILED, "inconclusive": INCONCLUSIVE, "refused": ERROR}
"""What a gate may come to, and the exit code of it; refused: it could not be asked."""


class Refusal(Exception):
    """Something the user can mend: the message says what is wrong and what to do, in one line."""

    code = ERROR

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
