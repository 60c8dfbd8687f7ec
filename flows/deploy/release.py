"""Approve, promote, roll back and retire from Prefect's page: the same compare-and-swap as the commands of that name."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.deploy.here import Here, here
from flows.ledger.database import reading
from flows.release import actions
from flows.release.approvals import approvals, names
from flows.release.table import Release

APPROVE, PROMOTE = "needledrop-approve", "needledrop-promote"
ROLLBACK, RETIRE = "needledrop-rollback", "needledrop-retire"

Name = Annotated[str, Field(min_length=1)]
Version = Annotated[int, Field(ge=1)]
Champion = Annotated[int, Field(ge=0)]


@flow(name=APPROVE, retries=0, persist_result=False)
def approve(version: Version, by: Name, reason: Name, override_inconclusive: bool = False) -> State[Any]:
    """Sign a model version off that passed its gate.

    Args:
        version: Number of the model version; its gate must have passed.
        by: Who answers for it; goes into the audit log and onto the version's page. MLflow with users: the worker's user only.
        reason: Why, in words.
        override_inconclusive: Approve although the gate could not tell; never after a failed gate.
    """
    with here(APPROVE) as now:
        release = actions.approve(now.platform, version, by, reason, override_inconclusive)
        with reading(now.platform) as connection:
            given = approvals(connection, version)
        return _done(now, release, f"version {version} is approved by {names(given)}")


@flow(name=PROMOTE, retries=0, persist_result=False)
def promote(version: Version, by: Name, expected_champion: Champion | None = None) -> State[Any]:
    """Make an approved version the champion: model and index together.

    Args:
        version: Number of the model version; it must be approved.
        by: Who promotes it; goes into the audit log.
        expected_champion: Refuse unless this version is champion now; 0 for none yet. Empty: the one that it was gated against.
    """
    with here(PROMOTE) as now:
        release = actions.promote(now.platform, version, by, expected_champion)
        return _done(now, release, f"version {version} is the champion")


@flow(name=ROLLBACK, retries=0, persist_result=False)
def rollback(by: Name, reason: Name, expected_champion: Champion | None = None) -> State[Any]:
    """Make the previous champion the champion again: model and index together.

    Args:
        by: Who rolls back; goes into the audit log.
        reason: Why; goes into the audit log and onto the version's page.
        expected_champion: Refuse unless this version is champion now, so that a second try does not go back twice. Empty: any.
    """
    with here(ROLLBACK) as now:
        release = actions.rollback(now.platform, by, reason, expected_champion)
        return _done(now, release, f"version {release.version} is the champion again")


@flow(name=RETIRE, retries=0, persist_result=False)
def retire(version: Version, by: Name, reason: Name) -> State[Any]:
    """End a version that is champion, or was, and cannot be evaluated or must not be served any more.

    Args:
        version: Number of the model version. Of a champion, the floors of a first one apply to the next.
        by: Who retires it; goes into the audit log.
        reason: Why; goes into the audit log and onto the version's page.
    """
    with here(RETIRE) as now:
        release = actions.retire(now.platform, version, by, reason)
        return _done(now, release, f"version {version} is retired")


def _done(now: Here, release: Release, words: str) -> State[Any]:
    now.attempt.result = {"version": release.version, "state": release.state}
    return Completed(message=words)
