"""Promote from Prefect's page: the same compare-and-swap as `needledrop promote`."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.deployed.here import here
from flows.release.actions import promote as promote_release

FLOW = "needledrop-promote"


@flow(name=FLOW, retries=0, persist_result=False)
def promote(
    version: Annotated[int, Field(ge=1)],
    by: Annotated[str, Field(min_length=1)],
    expected_champion: Annotated[int, Field(ge=0)] | None = None,
) -> State[Any]:
    """Make an approved version the champion: model and index together.

    Args:
        version: Number of the model version; it must be approved.
        by: Who promotes it; goes into the audit log.
        expected_champion: The champion that you believe is replaced (0: none); refused if it is another. Empty: any.
    """
    with here(FLOW) as now:
        release = promote_release(now.environment, now.workspace, version, by, expected_champion)
        now.attempt.result = {"version": release.version, "state": release.state}
        return Completed(message=f"version {release.version} is the champion")
