"""Watch a corpus outside the workspace: when it has changed and come to rest, say what would run, and start it."""

import time
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.deploy.here import here
from flows.deploy.inputs import corpus_digest
from flows.drift.start import start_retrain
from flows.errors import Refusal
from flows.ledger.attempts import last_finished
from flows.ledger.database import reading
from flows.workspace import plan
from flows.workspace.observe import is_outside, observe
from flows.workspace.workspace import Workspace

FLOW = "needledrop-watch"


@flow(name=FLOW, retries=0, persist_result=False)
def watch(
    commit: str = "main",
    settle_s: Annotated[int, Field(ge=0, le=86400)] = 600,
    give_up_s: Annotated[int, Field(ge=0, le=86400)] = 7200,
) -> State[Any]:
    """List the corpus of params.yaml; if it is not what was last seen, wait until it rests, and start a retrain.

    Args:
        commit: Branch, tag or commit whose params.yaml names the corpus.
        settle_s: Seconds for which the listing must stay the same, so that a half-done upload is not trained on.
        give_up_s: Seconds after which a corpus that never rests is left to the next look.
    """
    logger = get_run_logger()
    with here(FLOW) as now:
        if not is_outside(now.platform.workspace):
            raise Refusal("params.yaml: the corpus is rendered in the workspace; there is nothing to watch")
        with reading(now.platform) as connection:
            last = last_finished(connection, FLOW)
        first = _listing(now.platform.workspace)
        if last is not None and last.inputs == first:
            now.attempt.state, now.attempt.inputs = "skipped", first
            return Completed(name="Skipped", message="the corpus is as it was")
        settled = wait_until_still(lambda: _listing(now.platform.workspace), first, settle_s, give_up_s)
        if settled is None:
            now.attempt.state = "skipped"
            return Completed(name="Unsettled", message=f"the corpus still changes after {give_up_s} s")
        made = plan.make(now.platform.workspace)
        logger.info("would run: %s", ", ".join(stage["name"] for stage in made["stages"] if stage["runs"]) or "nothing")
        run = start_retrain(settled, "the corpus changed", {"commit": commit})
        now.attempt.inputs, now.attempt.result = settled, {"retrain": run}
        return Completed(message=f"the corpus changed; retrain {run} was asked for")


def wait_until_still(
    listing: Any, first: str, settle_s: float, give_up_s: float, sleep: Any = time.sleep
) -> str | None:
    """Look until the answer has been the same for `settle_s` seconds; None if that does not come within `give_up_s`."""
    seen, still, waited = first, 0.0, 0.0
    pause = max(settle_s / 4, 0.1)
    while still < settle_s:
        if waited >= give_up_s:
            return None
        sleep(pause)
        waited += pause
        again = listing()
        seen, still = again, still + pause if again == seen else 0.0
    return seen


def _listing(workspace: Workspace) -> str:
    observe(workspace)
    return corpus_digest(workspace)
