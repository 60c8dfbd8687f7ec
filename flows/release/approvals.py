"""Who approved a version, as the audit log has it."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy.engine import Connection

from flows.release import audit

APPROVE: Final = "approve"
"""The audit log's word for an approval beyond the first, which changes the state."""


@dataclass(frozen=True)
class Approval:
    """One person's word for a version, as the audit log has it.

    Attributes:
        by: who. at: when. why: in words.
        override: although the gate was inconclusive.
    """

    by: str
    at: str
    why: str
    override: bool

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def approvals(connection: Connection, version: int) -> list[Approval]:
    """Return the approvals since the version was gated last, one for each person, oldest first."""
    given: dict[str, Approval] = {}
    for entry in audit.entries(connection, version):
        to = entry.detail.get("to")
        if to == "evaluated":
            given.clear()
        elif to == "approved" or entry.action == APPROVE:
            why, override = str(entry.detail["reason"]), bool(entry.detail["override"])
            given.setdefault(folded(entry.actor), Approval(entry.actor, entry.at, why, override))
    return list(given.values())


def folded(name: str) -> str:
    """A name without what people write differently: case and blanks."""
    return " ".join(name.split()).casefold()


def names(given: list[Approval]) -> str:
    """Who they are, as a person would say it."""
    *most, last = [one.by for one in given]
    return f"{', '.join(most)} and {last}" if most else last
