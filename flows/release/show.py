"""Releases and the audit log for people: tables, and the same as plain values."""

from dataclasses import asdict
from typing import Any

from rich.markup import escape

from flows.errors import OK
from flows.ledger.database import reading
from flows.registry.tracking import Unreachable
from flows.release import audit
from flows.release.approvals import Approval, approvals
from flows.release.check import check
from flows.release.mirror import mirror, standing
from flows.release.releases import read
from flows.workspace.console import console, table
from flows.workspace.platform import Platform


def heal(platform: Platform) -> str:
    """Let MLflow show what the ledger says, where a kill came in between; return what is in the way, or nothing."""
    if not standing(platform).releases:
        return ""
    try:
        mirror(platform)
    except Unreachable as error:
        return f"this is the ledger's word; {error}"
    return ""


def overview(platform: Platform) -> dict[str, Any]:
    """Return every release, by version, with the aliases."""
    now = standing(platform)
    found = []
    for release in now.releases:
        given = [one.as_json() for one in approvals_of(platform, release.version)]
        found.append(release.as_json() | {"alias": now.alias_of(release.version), "approvals": given})
    return {"aliases": now.aliases, "releases": found}


def history_of(platform: Platform, version: int) -> dict[str, Any]:
    """Return one release with its history.

    Raises:
        UnknownVersion: the ledger has no such version.
    """
    now = standing(platform)
    with reading(platform) as connection:
        release = read(connection, version)
        history = audit.entries(connection, version)
        given = [one.as_json() for one in approvals(connection, version)]
    more = {"alias": now.alias_of(version), "approvals": given, "history": [asdict(entry) for entry in history]}
    return release.as_json() | more


def approvals_of(platform: Platform, version: int) -> list[Approval]:
    """Return who has approved a version; nobody where there is no ledger yet."""
    if not standing(platform).releases:
        return []
    with reading(platform) as connection:
        return approvals(connection, version)


def log(platform: Platform) -> list[dict[str, Any]]:
    """Return the audit log, oldest first."""
    with reading(platform) as connection:
        return [asdict(entry) for entry in audit.entries(connection)]


def verify(platform: Platform) -> dict[str, Any]:
    """Check the audit log and the releases against it.

    Returns:
        How many rows there are, and the hash of the last one, which seals all of them.

    Raises:
        Tampered: with the first row that is changed or missing.
    """
    with reading(platform) as connection:
        rows = check(connection)
        log = audit.entries(connection)
    return {"rows": rows, "head": log[-1].hash if log else audit.GENESIS}


def show(found: dict[str, Any]) -> int:
    """Print every release."""
    out = console()
    if not found["releases"]:
        out.print("no releases yet; `needledrop retrain` registers one")
        return OK
    rows = table("version", "state", "alias", "approved by", "evidence", "registered", "content", right=("version",))
    for one in found["releases"]:
        words = (
            _words(one["state"]),
            one["alias"],
            ", ".join(given["by"] for given in one["approvals"]),
            (one["evidence"] or "")[:12],
        )
        rows.add_row(str(one["version"]), *map(escape, (*words, one["created"], one["digest"][:12])))
    out.print(rows)
    out.print("next: needledrop release show VERSION   what is signed off together, and its history")
    return OK


def show_one(one: dict[str, Any]) -> int:
    """Print one release: its unit and its history."""
    out = console()
    alias = f" ({one['alias']})" if one["alias"] else ""
    out.print(f"version {one['version']}: {_words(one['state'])}{alias}", markup=False)
    facts = {name: one[name] for name in ("digest", "model", "index", "catalogue", "files")}
    facts |= {f"{modality} extractor": digest for modality, digest in sorted(one["specs"].items())}
    facts |= {name: one[name] for name in ("manifest", "params", "code", "commit", "run_id", "evidence")}
    for name, value in facts.items():
        out.print(f"  {name.replace('_', ' '):<18} {value or 'none'}", markup=False, soft_wrap=True)
    if one["evidence"]:
        against = f"version {one['against']}" if one["against"] else "no champion: floors"
        out.print(f"  {'gated against':<18} {against}")
    for given in one["approvals"]:
        out.print(f"  {'approved by':<18} {given['by']} at {given['at']}", markup=False)
    return show_log(one["history"])


def show_log(entries: list[dict[str, Any]]) -> int:
    """Print rows of the audit log."""
    rows = table("row", "when", "who", "version", "what", "why", "hash", right=("row", "version"))
    for entry in entries:
        detail = entry["detail"]
        what = entry["action"]
        if "from" in detail:
            what = f"{_words(detail['from'])} to {_words(detail['to'])}"
        why = str(detail.get("reason", "")) + (" (inconclusive overridden)" if detail.get("override") else "")
        words = (entry["at"], entry["actor"], str(entry["version"] or ""), what, why, entry["hash"][:12])
        rows.add_row(str(entry["number"]), *map(escape, words))
    console().print(rows)
    return OK


def _words(state: str) -> str:
    return state.replace("_", " ")
