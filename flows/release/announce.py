"""What people are told about releases: verdicts, approvals, promotions, rollbacks; each once, with the way to its page."""

import logging
from datetime import timedelta
from typing import Final

from sqlalchemy.engine import Connection

from flows.environment import public
from flows.ledger.database import transaction
from flows.ledger.errors import LedgerError
from flows.ledger.notices import DAY, alike, note, pass_by
from flows.registry.tracking import MODEL
from flows.release.evidence import PAGE
from flows.release.table import Release
from flows.workspace.platform import Platform

_SAID: Final = {
    "passed": "passed its gate",
    "failed": "failed its gate",
    "inconclusive": "was gated, and the gate could not tell",
    "refused": "could not be gated",
}

log = logging.getLogger(__name__)


def note_verdict(connection: Connection, version: int, verdict: str, words: str, evidence: str) -> None:
    """Note a verdict as it is written down; `tell_verdict` adds the figures. Again on the same evidence is no news.

    Args:
        connection: inside the transaction that writes it.
        version: that was gated.
        verdict: passed, failed or inconclusive.
        words: what the gate says.
        evidence: sha256 of the gate's report.
    """
    note(connection, _verdict_key(version, evidence), f"{_headline(version, verdict)}\n{words}")


def tell_verdict(platform: Platform, version: int, verdict: str, words: str, evidence: str) -> None:
    """Tell a verdict that was noted, with the gate's figures and the way to its page."""
    _tell(platform, _verdict_key(version, evidence), f"{_headline(version, verdict)}\n{words}", version)


def tell_refused(platform: Platform, version: int, why: str) -> None:
    """Tell that a version could not be gated: for the same reason once a day."""
    _tell(platform, f"gate-refused/{version}/{alike(why)}", f"{_headline(version, 'refused')}\n{why}", version, DAY)


def note_decision(platform: Platform, connection: Connection, release: Release, headline: str, words: str) -> None:
    """Note what people decided about a release.

    Args:
        platform: names the servers.
        connection: inside the transaction that decides.
        release: as it is now; its last row of the audit log is the event.
        headline: what became of it, after its number.
        words: more.
    """
    said = f"{MODEL}: version {release.version} {headline}\n{words}\n{page(platform, release.version)}".rstrip()
    note(connection, f"release/{release.audited}", said)


def page(platform: Platform, version: int) -> str:
    """The version's page in MLflow where there is a server, else its gate report's path; nothing where there is neither."""
    if server := public(platform.tracking_uri):
        return f"{server}/#/models/{MODEL}/versions/{version}"
    report = platform.workspace.reports / f"gate-{version}" / PAGE
    return str(report) if report.exists() else ""


def _tell(platform: Platform, key: str, text: str, version: int, again: timedelta | None = None) -> None:
    """Note it, unless it is known, and tell what waits; a ledger that does not answer is said and fails nothing."""
    try:
        with transaction(platform) as connection:
            note(connection, key, f"{text}\n{page(platform, version)}".rstrip(), again)
    except LedgerError as error:
        log.warning("the notice %s was not noted: %s", key, error)
    pass_by(platform)


def _headline(version: int, verdict: str) -> str:
    return f"{MODEL}: version {version} {_SAID[verdict]}"


def _verdict_key(version: int, evidence: str) -> str:
    return f"verdict/{version}/{evidence[:16]}"
