"""The daily look at new media against what the champion was trained on; drift starts a retrain."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.deploy.here import MONITOR, here, pipeline
from flows.monitor import monitor as monitor_here
from flows.monitor import sentence


@flow(name=MONITOR, retries=0, persist_result=False)
def monitor(commit: str = "main", retraining: bool = True) -> State[Any]:
    """Compare new media with the champion's stored reference; report, notify, and start a retrain where it is due.

    Args:
        commit: Branch, tag or commit of the project whose params and settings of drift apply.
        retraining: Start a retrain when the decision says so; without it only the report is made.
    """
    with here(MONITOR) as now, pipeline(now):
        result = monitor_here(now.platform.workspace.root, retraining=retraining)
        now.attempt.result = result.as_json()
        return Completed(message=sentence(result))
