"""Every server is away in turn while the deployed line retrains: the run waits, or fails in words and the next goes on."""

import os
import time

import pytest

from infra.state import State
from tests.stack.commands import away
from tests.stack.deployed_line import Line
from tests.stack.moments import GATE, REGISTRATION, Look, stages
from tests.stack.test_kills import check_nothing_is_left, check_versions, standing

pytestmark = [pytest.mark.stack, pytest.mark.timeout(5400)]

AWAY_S = float(os.environ.get("NEEDLEDROP_OUTAGE_S", "4"))
RETRAIN = "needledrop-retrain/retrain"
S3 = ("s3", "s3-object", "s3-container", "s3-account")
# Prefect and the ledger are needed all the time, MLflow and S3 where models are registered and gated.
OUTAGES = [
    ("corpus", "hangs", ("postgres",)),
    ("ingest", "dies", ("prefect",)),
    ("features@music", "dies", ("postgres",)),
    ("training", "hangs", ("prefect",)),
    (REGISTRATION, "hangs", ("mlflow",)),
    (REGISTRATION, "dies", S3),
    (GATE, "dies", ("mlflow",)),
    (GATE, "hangs", S3),
]


def test_each_server_is_away_while_a_retrain_runs(
    deployed: Line, stack: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a worker has it by itself: one that asks more often gives up sooner.
    monkeypatch.setitem(deployed.environment, "PREFECT_WORKER_QUERY_SECONDS", "10")
    line, before, waiting, pipelines, failed = deployed, standing(deployed), list(OUTAGES), 0, False
    order = stages(line)
    print(f"\neach away for {AWAY_S:g} s in mid-run")
    while waiting or failed:
        parameters = {"overrides": {"corpus.seed": 200 + pipelines}, "reason": "outage test", "force": True}
        line.worker()
        look, run = Look(line, order), line.submit(RETRAIN, **parameters)
        asked, state = time.monotonic(), line.state(run)
        while state[0] not in ("COMPLETED", "FAILED", "CRASHED"):
            if waiting and look.reached(waiting[0][0]):
                _, how, names = waiting.pop(0)
                where = ", ".join(look.now())
                with away(stack, how, *names):
                    time.sleep(AWAY_S)
                print(f"{names[0]:<9} {how:<6} in {where}", flush=True)
            line.worker()
            time.sleep(0.1)
            if time.monotonic() > asked + 2:
                asked, state = time.monotonic(), line.state(run)
        print(f"  the run ended: {state[0]}, {state[2][:400]}", flush=True)
        failed = state[0] != "COMPLETED"
        pipelines += not failed
    line.stop()
    check_versions(line, before, pipelines)
    check_nothing_is_left(line, [], may_have_failed=True)
