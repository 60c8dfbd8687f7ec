"""Whether the ledger is whole: the audit log by itself, and every release against what the log tells of it."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from flows.release import audit
from flows.release.approvals import APPROVE
from flows.release.releases import all_releases
from flows.release.table import RELEASES

_ABOUT_RELEASES = ("register", "move", "log", "offer", APPROVE)


def check(connection: Connection) -> int:
    """Verify the audit log, and that every release is what the log says; return how many rows the log has.

    Raises:
        Tampered: with the first row that is changed or missing, or the first release that differs.
    """
    count = audit.verify(connection)
    told: dict[int, dict[str, Any]] = {}
    for entry in audit.entries(connection):
        if entry.version is not None and entry.action in _ABOUT_RELEASES:
            facts = {("state" if name == "to" else name): value for name, value in entry.detail.items()}
            told[entry.version] = told.get(entry.version, {}) | facts | {"audited": entry.number}
    last = connection.execute(select(RELEASES.c.audited).order_by(RELEASES.c.audited.desc()).limit(1)).scalar() or 0
    if last > count:
        raise audit.Tampered(f"audit log: row {count + 1} is missing: the log was cut off at its end")
    for release in all_releases(connection):
        said = told.pop(release.version, {})
        if release.state != said.get("state"):
            raise audit.Tampered(
                f"release {release.version} is {release.state}, but the audit log says {said.get('state', 'nothing')}"
            )
        for name, value in release.as_json().items():
            if name in said and said[name] != value:
                raise audit.Tampered(f"release {release.version}: its {name} is not what the audit log says")
    if told:
        raise audit.Tampered(f"release {min(told)} is missing, but the audit log knows it")
    return count
