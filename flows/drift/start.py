"""Start the retrain deployment from another flow, at most once for the same cause."""

from typing import Any

from flows.errors import Refusal
from flows.ledger.lease import check

DEPLOYMENT = "needledrop-retrain/retrain"


def start_retrain(cause: str, reason: str, parameters: dict[str, Any] | None = None) -> str:
    """Ask Prefect for a retrain; return the flow run's id.

    Args:
        cause: what it is about, as a digest; a second start for the same cause gives the first one's run.
        reason: the same in words.
        parameters: other parameters of the deployment.

    Raises:
        Refusal: the deployment is not there.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    check()
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            raise Refusal(f"Prefect has no deployment {DEPLOYMENT}; run `needledrop deploy`") from None
        run = client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"reason": reason, "jitter_s": 0, **(parameters or {})},
            idempotency_key=f"retrain {cause}",
        )
    return str(run.id)
