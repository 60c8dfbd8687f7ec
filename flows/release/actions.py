"""Approve, promote, roll back, retire: the ledger decides in one transaction, then MLflow is made to show it.

What takes long, reading stored files, comes before the transaction; inside, nothing may have changed
since. A refused action changes nothing.
"""

from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from flows.errors import Refusal
from flows.ledger.database import reading, transaction
from flows.ledger.notices import pass_by
from flows.registry.tracking import Unreachable, answering
from flows.release import audit
from flows.release.announce import note_decision
from flows.release.approvals import approvals, names
from flows.release.duties import approved_already, read_duties, require_duties, require_override
from flows.release.evidence import find_report
from flows.release.mirror import mirror, require_own, standing
from flows.release.releases import Release, StaleState, UnknownVersion, approve_too, champion, move, previous, read
from flows.release.rules import NONE_YET, reason_of, require_promotable, require_same_champion, require_verdict
from flows.release.signer import signer
from flows.release.states import VERDICTS
from flows.release.unit import ArtifactsGone, MismatchedPair, verify_stored
from flows.workspace.platform import Platform

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["approve", "mirror", "promote", "retire", "rollback"]


def approve(platform: Platform, version: int, by: str | None, reason: str, override: bool = False) -> Release:
    """Sign a version off that passed its gate: a record of who, when, why and on which evidence.

    Again by the same person changes nothing; by another one counts while release.yaml asks for more.

    Args:
        platform: where MLflow and the ledger are.
        version: which model version.
        by: who answers for it; None: the user that MLflow's server confirms, or of this machine.
        reason: why, in words.
        override: approve although the gate was inconclusive; never where it failed.

    Raises:
        Refusal: no name or reason, unknown version, no passed gate, enough approvals by others, another champion than
            the gate compared with, or the gate's report is not the one recorded.
    """
    needed, reason = read_duties(platform.workspace.root).approvals, reason_of(reason)
    by = signer(platform, by)
    client = _begin(platform)
    with reading(platform) as connection:
        seen, given = read(connection, version), approvals(connection, version)
    if approved_already(seen, given, by, needed):
        return seen
    require_verdict(seen, override)
    require_override(seen, given, override)
    with answering(platform.tracking_uri):
        report = find_report(client, seen)
    if report is None:
        raise Refusal(
            f"version {version}: no gate report of its run has the digest {str(seen.evidence)[:12]} that the gate "
            f"recorded; run `needledrop gate {version}` again"
        )
    with transaction(platform) as connection:
        release, given = read(connection, version), approvals(connection, version)
        if approved_already(release, given, by, needed):
            return release
        require_override(release, given, override)
        if release.evidence != seen.evidence:
            raise StaleState(f"version {version} was gated again meanwhile; nothing changed: read the new report first")
        require_same_champion(release, champion(connection))
        if given:
            release = approve_too(connection, version, by, reason, override)
        else:
            release = move(connection, version, seen.state, "approved", by, reason, override=override)
        counted = f" ({len(given) + 1} of {needed} approvals)" if needed > 1 else ""
        note_decision(platform, connection, release, f"is approved by {by}{counted}", reason)
    _show(platform, f"version {version} is approved")
    return release


def promote(
    platform: Platform,
    version: int,
    by: str | None,
    expected_champion: int | None = None,
    champion_lost: bool = False,
) -> Release:
    """Make an approved version the champion; the one before becomes `previous`. Again changes nothing.

    Args:
        platform: where MLflow and the ledger are.
        version: which model version.
        by: who does it; None: the user that MLflow's server confirms, or of this machine.
        expected_champion: refuse unless this version is champion; `NONE_YET` for none; None: the one that
            the version was gated against.
        champion_lost: accept that the present champion's files are gone, and so cannot be rolled back to.

    Raises:
        Refusal: unknown version, not approved, or by too few or by who promotes it where release.yaml asks for
            more, another champion than expected, a model and an index that
            are no pair, or files that are gone or others.
    """
    duties, by = read_duties(platform.workspace.root), signer(platform, by)
    client = _begin(platform)
    with reading(platform) as connection:
        release, reigning = read(connection, version), champion(connection)
        given = approvals(connection, version)
    if release.state == "champion":
        return release
    require_promotable(release, reigning, expected_champion)
    require_duties(release, given, duties, by)
    with answering(platform.tracking_uri):
        require_own(client, standing(platform))
        verify_stored(client, release)
        if reigning and not champion_lost:
            _require_way_back(client, reigning)
    with transaction(platform) as connection:
        release, now = read(connection, version), champion(connection)
        if release.state == "champion":
            return release
        require_promotable(release, now, expected_champion)
        given = approvals(connection, version)
        require_duties(release, given, duties, by)
        if now:
            move(connection, now.version, "champion", "superseded", by, f"version {version} was promoted")
        met = {"policy": duties.digest(), "approvals": [one.by for one in given]}
        release = move(connection, version, "approved", "champion", by, _after(now), duties=met)
        words = f"{_after(now)}; approved by {names(given)}. {_verdict(connection, version)}"
        note_decision(platform, connection, release, f"is champion, promoted by {by}", words)
    _show(platform, f"version {version} is champion")
    return release


def rollback(platform: Platform, by: str | None, reason: str, expected_champion: int | None = None) -> Release:
    """Restore the champion before this one, model and index together: a version carries both.

    Where the champion was retired, the one before it is restored just so.

    Args:
        platform: where MLflow and the ledger are.
        by: who does it; None: the user that MLflow's server confirms, or of this machine.
        reason: why, in words.
        expected_champion: refuse unless this version is champion; makes a second try harmless.

    Raises:
        Refusal: no champion, no previous one, another champion than expected, or the files of the previous
            one are gone or others.
    """
    reason, by = reason_of(reason), signer(platform, by)
    client = _begin(platform)
    with reading(platform) as connection:
        reigning, target = champion(connection), previous(connection)
    if expected_champion not in (None, reigning.version if reigning else NONE_YET):
        held = f"version {reigning.version}" if reigning else "no version"
        raise StaleState(f"{held} is champion, not {expected_champion}; nothing changed")
    if target is None:
        if reigning is None:
            raise Refusal("there is no champion, and none before it to restore; see `needledrop release show`")
        raise Refusal(f"version {reigning.version} is the first champion: there is no previous one to roll back to")
    with answering(platform.tracking_uri):
        require_own(client, standing(platform))
        try:
            verify_stored(client, target)
        except (ArtifactsGone, MismatchedPair) as error:
            step = f"or `needledrop retire {target.version} --by YOU --reason WHY`, and the champion before it is the next to restore"
            raise ArtifactsGone(f"{error}; {step}") from None
    with transaction(platform) as connection:
        now = champion(connection)
        if now != reigning:
            held, was = (f"version {one.version}" if one else "no version" for one in (now, reigning))
            raise StaleState(f"{held} is champion by now, not {was}; nothing changed")
        if now is not None:
            move(connection, now.version, "champion", "rolled_back", by, reason)
        what = f"rollback of version {now.version}" if now else f"restored while there was no champion: {reason}"
        release = move(connection, target.version, "superseded", "champion", by, what)
        words = f"instead of {f'version {now.version}' if now else 'none'}: {reason}"
        note_decision(platform, connection, release, f"is champion again, rolled back by {by}", words)
    _show(platform, f"version {release.version} is champion again")
    return release


def retire(platform: Platform, version: int, by: str | None, reason: str) -> Release:
    """End a version that is champion, or was: nothing can be compared with it, or it must not be served any more.

    Its files are not asked for, so it works where they are gone. Of a champion the next one need not be better, since
    nobody can tell: the floors of a first champion apply to it. Again changes nothing.

    Args:
        platform: where MLflow and the ledger are.
        version: which model version.
        by: who does it; None: the user that MLflow's server confirms, or of this machine.
        reason: why, in words.

    Raises:
        Refusal: no reason, an unknown version, or one that never was champion.
    """
    reason, by = reason_of(reason), signer(platform, by)
    _begin(platform)
    with transaction(platform) as connection:
        release = read(connection, version)
        if release.state == "retired":
            return release
        if release.state not in ("champion", "superseded"):
            raise Refusal(
                f"version {version} is {release.state.replace('_', ' ')}: only a version that is champion, or was before "
                "the present one, is retired; nothing changed"
            )
        was = release.state
        release = move(connection, version, was, "retired", by, reason)
        served = "there is no champion now" if was == "champion" else "it cannot be restored any more"
        note_decision(platform, connection, release, f"is retired by {by}", f"{reason}; {served}")
    _show(platform, f"version {version} is retired")
    return release


def _begin(platform: Platform) -> "MlflowClient":
    if not standing(platform).releases:  # nor is an MLflow store made for nothing
        raise UnknownVersion("no releases yet; run `needledrop retrain`, or `needledrop register`, first")
    return mirror(platform)


def _require_way_back(client: "MlflowClient", reigning: Release) -> None:
    try:
        verify_stored(client, reigning)
    except (ArtifactsGone, MismatchedPair) as error:
        raise ArtifactsGone(
            f"the champion, {error}; it could not be rolled back to: promote with --champion-lost to accept that"
        ) from None


def _after(before: Release | None) -> str:
    return f"promoted over version {before.version}" if before else "first champion"


def _verdict(connection: Connection, version: int) -> str:
    """What the gate said of a version last."""
    said = [entry.detail for entry in audit.entries(connection, version) if entry.detail.get("to") in VERDICTS]
    return f"Its gate: {said[-1]['reason']}" if said else ""


def _show(platform: Platform, done: str) -> None:
    try:
        mirror(platform)
    except Unreachable as error:
        raise Unreachable(f"{done}, but MLflow does not show it yet ({error}); run the same command again") from error
    finally:
        pass_by(platform)
