"""Releases in the ledger: one row per model version, changed by compare-and-swap, with an audit row each time."""

from dataclasses import replace
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection

from flows.errors import Refusal
from flows.release import audit
from flows.release.announce import note_verdict
from flows.release.approvals import APPROVE
from flows.release.states import ALLOWED, CHALLENGING, VERDICTS, State
from flows.release.table import RELEASES, Release, columns_of, release_of

__all__ = [
    "RELEASES", "OtherContent", "Release", "StaleState", "UnknownVersion", "add", "all_releases", "approve_too", "challenger", "champion", "move", "previous", "read",
]  # fmt: skip


class StaleState(Refusal):
    """The version is not in the state that was expected; nothing has changed."""


class OtherContent(Refusal):
    """The ledger knows a version with other content, or content as another version; nothing has changed."""


class UnknownVersion(Refusal):
    """The ledger has no such version."""


def read(connection: Connection, version: int) -> Release:
    """Return one release.

    Raises:
        UnknownVersion: the ledger has no such version.
    """
    row = connection.execute(select(RELEASES).where(RELEASES.c.version == version)).first()
    if row is None:
        known = ", ".join(str(release.version) for release in all_releases(connection))
        raise UnknownVersion(
            f"no version {version} in the ledger"
            + (f"; there is {known}" if known else "; run `needledrop retrain` or `needledrop register` first")
        )
    return release_of(row)


def all_releases(connection: Connection) -> list[Release]:
    """Return every release, by version."""
    return [release_of(row) for row in connection.execute(select(RELEASES).order_by(RELEASES.c.version))]


def champion(connection: Connection) -> Release | None:
    """Return the champion; None where there is none."""
    return _first(connection, RELEASES.c.state == "champion")


def previous(connection: Connection) -> Release | None:
    """Return what a rollback would restore: the champion before this one; None where there is none."""
    return _first(connection, RELEASES.c.state == "superseded", RELEASES.c.promoted)


def challenger(connection: Connection) -> Release | None:
    """Return what was registered last, unless it was champion since; None where there is none."""
    last = _first(connection, True, RELEASES.c.offered)
    return last if last and last.state in CHALLENGING else None


def add(connection: Connection, release: Release, actor: str) -> Release:
    """Add a release in the state `registered` and make it the challenger; known content keeps its state.

    Returns:
        The release as the ledger has it.

    Raises:
        OtherContent: the ledger knows the version with other content, or the content as another version.
    """
    same = (RELEASES.c.version == release.version) | (RELEASES.c.digest == release.digest)
    row = connection.execute(select(RELEASES).where(same)).first()
    if row is None:
        number = audit.append(connection, actor, "register", release.version, {"to": "registered", **_unit(release)})
        values = columns_of(replace(release, state="registered", audited=number))
        connection.execute(insert(RELEASES).values(**values, offered=number))
        return read(connection, release.version)
    if (row.version, row.digest) != (release.version, release.digest):
        raise OtherContent(
            f"the ledger knows version {row.version} as content {row.digest[:12]}, MLflow has version "
            f"{release.version} as {release.digest[:12]}: they are not of one another; a new MLflow store needs "
            "a new ledger (see NEEDLEDROP_LEDGER_URL and MLFLOW_TRACKING_URI)"
        )
    if row.run_id != release.run_id or row.files != release.files:  # registered anew in an MLflow store made anew
        moved = {"run_id": release.run_id, "files": release.files}
        _change(connection, release.version, audit.append(connection, actor, "log", release.version, moved), moved)
    if _first(connection, True, RELEASES.c.offered) != read(connection, release.version):
        number = audit.append(connection, actor, "offer", release.version, {})
        _change(connection, release.version, number, {"offered": number})
    return read(connection, release.version)


def move(
    connection: Connection,
    version: int,
    expected: State | set[State],
    new: State,
    actor: str,
    reason: str,
    evidence: str | None = None,
    override: bool = False,
    duties: dict[str, Any] | None = None,
) -> Release:
    """Change the state of a version, if it is what the caller expects, and write it into the audit log.

    Moving to where it already is, with the same evidence, changes nothing and writes nothing. A move to
    `evaluated` notes the champion of this moment and voids an earlier verdict and approval, so a gate
    makes it as it begins.

    Args:
        connection: inside `ledger.transaction`.
        version: which.
        expected: the state, or states, in which the caller saw it.
        new: the state to be.
        actor: who; for `approved`, who answers for it.
        reason: why, in words.
        evidence: sha256 of the gate's report.json; with a verdict only.
        override: approve although the gate was inconclusive.
        duties: what the log keeps of what was asked for, and who met it; with `champion` only.

    Raises:
        UnknownVersion: the ledger has no such version.
        StaleState: it is in another state, or the step does not exist; nothing has changed.
    """
    release = read(connection, version)
    against = _number(champion(connection)) if new == "evaluated" else release.against
    if release.state == new and evidence in (None, release.evidence) and against == release.against:
        return release
    states: set[State] = {expected} if isinstance(expected, str) else set(expected)
    if release.state not in states:
        raise StaleState(f"version {version} is {release.state}, not {' or '.join(sorted(states))}; nothing changed")
    again = release.state == new == "evaluated"  # a killed gate begins anew, against another champion
    if not again and new not in ALLOWED[release.state]:
        raise StaleState(f"version {version} is {release.state}, which cannot become {new}; nothing changed")
    if release.state == "inconclusive" and new == "approved" and not override:
        raise StaleState(f"version {version} is inconclusive; nothing changed: gate it with more data, or override")
    if (new in VERDICTS) != (evidence is not None):
        raise ValueError(f"evidence belongs to a verdict, and only to one (moving to {new})")
    reigning = champion(connection)
    if new == "champion" and reigning is not None:
        raise StaleState(f"version {reigning.version} is champion; nothing changed")

    values: dict[str, Any] = {"state": new}
    if new == "evaluated":
        values |= {"against": against, "evidence": None, "approved_by": None, "approved_at": None}
    elif new in VERDICTS:
        values["evidence"] = evidence
    elif new == "approved":
        values |= {"approved_by": actor, "approved_at": audit.now()}
    elif new == "champion" and release.state == "approved":  # a rollback restores the place it had
        values["promoted"] = 1 + (connection.scalar(select(func.max(RELEASES.c.promoted))) or 0)
    detail = {"from": release.state, "to": new, "reason": reason, "override": override} | {
        name: value for name, value in values.items() if name != "state"
    }
    detail |= duties or {}
    number = audit.append(connection, actor, "move", version, detail)
    _change(connection, version, number, values)
    if evidence is not None:
        note_verdict(connection, version, new, reason, evidence)
    return read(connection, version)


def approve_too(connection: Connection, version: int, actor: str, reason: str, override: bool) -> Release:
    """Add one more person's approval of an approved version to the audit log.

    Raises:
        StaleState: it is not approved; nothing has changed.
    """
    release = read(connection, version)
    if release.state != "approved":
        raise StaleState(f"version {version} is {release.state}, not approved; nothing changed")
    detail = {"reason": reason, "override": override, "evidence": release.evidence}
    _change(connection, version, audit.append(connection, actor, APPROVE, version, detail), {})
    return read(connection, version)


def _number(release: Release | None) -> int | None:
    return release.version if release else None


def _first(connection: Connection, where: Any, last_by: Any = None) -> Release | None:
    asked = select(RELEASES).where(where)
    row = connection.execute(asked if last_by is None else asked.order_by(last_by.desc()).limit(1)).first()
    return release_of(row) if row else None


def _change(connection: Connection, version: int, number: int, values: dict[str, Any]) -> None:
    connection.execute(update(RELEASES).where(RELEASES.c.version == version).values(audited=number, **values))


def _unit(release: Release) -> dict[str, Any]:
    names = (
        "digest",
        "run_id",
        "model",
        "index",
        "catalogue",
        "specs",
        "manifest",
        "params",
        "code",
        "commit",
        "files",
    )
    return {name: getattr(release, name) for name in names}
