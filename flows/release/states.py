"""The states of a model version, and which may follow which.

    registered -> evaluated -> passed -> approved -> champion -> superseded -> retired
                            -> inconclusive                   -> rolled_back
                            -> failed                         -> retired

A verdict is against one champion, so a version may be gated again (back to `evaluated`) until it is
champion, and after it was rolled back; its approval is void then. `superseded` leads back to
`champion` by a rollback only. `retired` is the end in the open of a version that was champion, and nothing follows it; with
no champion, the floors of a first one apply to the next. An inconclusive version is approved only by an override with a reason.
"""

from typing import Final, Literal

State = Literal[
    "registered",
    "evaluated",
    "passed",
    "failed",
    "inconclusive",
    "approved",
    "champion",
    "superseded",
    "rolled_back",
    "retired",
]

ALLOWED: Final[dict[State, set[State]]] = {
    "registered": {"evaluated"},
    "evaluated": {"passed", "failed", "inconclusive"},
    "passed": {"approved", "evaluated"},
    "failed": {"evaluated"},
    "inconclusive": {"approved", "evaluated"},
    "approved": {"champion", "evaluated"},
    "champion": {"superseded", "rolled_back", "retired"},
    "superseded": {"champion", "retired"},
    "rolled_back": {"evaluated"},
    "retired": set(),
}

VERDICTS: Final[frozenset[State]] = frozenset(("passed", "failed", "inconclusive"))
"""What a gate says; each comes with the digest of its report."""

CHALLENGING: Final[frozenset[State]] = frozenset(
    ("registered", "evaluated", "passed", "failed", "inconclusive", "approved")
)
"""States in which the version that was offered last is the challenger."""

UNDECIDED: Final[frozenset[State]] = frozenset(("registered", "evaluated"))
"""States without a verdict."""
