"""What every deployed flow begins with: its workspace, its environment, and a look for dead runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect.runtime import flow_run

from flows.deploy.checkout import carry_over
from flows.ledger.attempts import LEASE_S, Attempt, attempt, last_finished, last_here, reap
from flows.ledger.database import reading
from flows.ledger.lease import lease, place
from flows.workspace.platform import Platform
from flows.workspace.workspace import find_workspace

PIPELINE = "pipeline"
"""The lease under which stages run: one at a time over all workers that share the ledger."""
RETRAIN, MONITOR = "needledrop-retrain", "needledrop-monitor"
"""The flows that run stages."""


@dataclass(frozen=True)
class Here:
    """Where a deployed flow runs."""

    platform: Platform
    attempt: Attempt


@contextmanager
def here(flow: str) -> Iterator[Here]:
    """Enter a run of `flow` in the ledger, in the workspace that the pull step made, after reaping dead ones."""
    platform = Platform.prepared(find_workspace())
    reap(platform)
    with attempt(platform, flow, str(flow_run.id)) as this:
        yield Here(platform, this)


@contextmanager
def pipeline(now: Here) -> Iterator[None]:
    """Have the pipeline to oneself, however long that takes, with the newest rows of this machine in place."""
    with lease(now.platform, PIPELINE, LEASE_S, wait_s=None, run=now.attempt.run):
        if (source := newer_rows(now)) is not None:
            carry_over(source, now.platform.workspace)
        yield


def newer_rows(now: Here) -> Path | None:
    """The workspace of the last run whose files are whole, where that is another and this one has not been used since."""
    with reading(now.platform) as connection:
        newest = last_finished(connection, RETRAIN, MONITOR, refused=True)
        mine = last_here(connection, now.platform.workspace, now.attempt.run, RETRAIN, MONITOR)
    if newest is None or newest.place != place() or Path(newest.workspace) == now.platform.workspace.root:
        return None
    return Path(newest.workspace) if mine is None or mine.began < newest.began else None
