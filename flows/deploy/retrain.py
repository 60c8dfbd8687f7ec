"""Retrain on a schedule, on drift, on new data, or on demand: one at a time, and not at all if nothing changed."""

import random
import time
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import get_run_context
from prefect.states import Completed, Failed
from pydantic import Field

from flows.deploy.here import RETRAIN, here, pipeline
from flows.deploy.inputs import inputs_digest, override
from flows.ledger.attempts import last_finished
from flows.ledger.database import reading
from flows.retrain import Retrain
from flows.retrain import retrain as retrain_here


@flow(name=RETRAIN, retries=0, persist_result=False)
def retrain(
    commit: str = "main",
    overrides: dict[str, Any] | None = None,
    force: bool = False,
    gating: bool = True,
    jitter_s: Annotated[int, Field(ge=0, le=21600)] = 0,
    reason: str = "",
) -> State[Any]:
    """Bring every stage up to date in a workspace of this run's own, register the model, and gate it.

    Args:
        commit: Branch, tag or commit of the project to train from.
        overrides: Other values for keys of params.yaml, for this run only: {"training.steps": 500}.
        force: Run even if commit, params and corpus are those of the last finished run.
        gating: Compare the new model with the champion after training.
        jitter_s: A scheduled run waits a random time up to this many seconds, so that teams do not all start at once.
        reason: Why this run was started, for people and for the record.
    """
    logger = get_run_logger()
    with here(RETRAIN) as now:
        if reason:
            logger.info("started because: %s", reason)
        if jitter_s and _is_scheduled():
            pause = random.uniform(0, jitter_s)  # noqa: S311 - spreads load, keeps no secret
            logger.info("waiting %.0f s (jitter)", pause)
            time.sleep(pause)
        override(now.platform.workspace, overrides or {})
        with pipeline(now):
            with reading(now.platform) as connection:
                last = last_finished(connection, RETRAIN)
            now.attempt.inputs = inputs_digest(now.platform.workspace)
            if last is not None and last.inputs == now.attempt.inputs and not force:
                now.attempt.state = "skipped"
                return Completed(name="Skipped", message=f"nothing changed since run {last.run} of {last.began}")
            done = retrain_here(now.platform.workspace.root, gating=gating)
            now.attempt.result = done.as_json()
            if done.verdict == "refused":
                # Not finished: the next run finds the version without a verdict, and gates it.
                now.attempt.state = "refused"
                return Failed(name="GateRefused", message=_words(done))
            return Completed(name=_ENDINGS.get(done.verdict, "Completed"), message=_words(done))


_ENDINGS: dict[str | None, str] = {"failed": "GateFailed", "inconclusive": "Inconclusive"}


def _words(done: Retrain) -> str:
    """Say in one line what came of the run."""
    if done.registration is None:
        return "the graph makes no model: nothing to register"
    why = f" ({done.refusal})" if done.refusal else ""
    return done.registration.sentence() + (f"; gate: {done.verdict}{why}" if done.verdict else "")


def _is_scheduled() -> bool:
    run = getattr(get_run_context(), "flow_run", None)
    return bool(run is not None and run.auto_scheduled)
