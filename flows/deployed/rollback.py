"""Roll back from Prefect's page: the same as `needledrop rollback`."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.deployed.here import here
from flows.release.actions import rollback as roll_release_back

FLOW = "needledrop-rollback"


@flow(name=FLOW, retries=0, persist_result=False)
def rollback(by: Annotated[str, Field(min_length=1)], reason: Annotated[str, Field(min_length=1)]) -> State[Any]:
    """Make the previous champion the champion again: model and index together.

    Args:
        by: Who rolls back; goes into the audit log.
        reason: Why; goes into the audit log.
    """
    with here(FLOW) as now:
        release = roll_release_back(now.environment, now.workspace, by, reason)
        now.attempt.result = {"version": release.version, "state": release.state}
        return Completed(message=f"version {release.version} is the champion again")
