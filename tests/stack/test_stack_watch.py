"""The watch deployment as a whole: a bucket changes, comes to rest, and a retrain starts; the same again starts none."""

import time
from typing import Any
from uuid import UUID

import pytest
import yaml

from infra.state import State
from infra.swift import s3_client
from tests.stack.deployed_line import Line, commit, git

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

WATCH = "needledrop-watch/watch"
BUCKET, PREFIX, SETTLE_S = "needledrop-media", "watched/", 6


@pytest.fixture
def watched(deployed: Line) -> Line:
    """A branch of the project whose corpus is a prefix of a bucket."""
    git(deployed.source, "checkout", "-q", "-b", "watched")
    path = deployed.source / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["corpus"] = {
        "kind": "s3", "source": "listing.json", "bucket": BUCKET, "prefix": PREFIX, "attempts": 4, "backoff_s": 0.5,
        "licence": None, "annotations": None, "seed_tags": None, "seed": 1, "seed_clips": 20, "clip_s": 4.0, "workers": 1,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    commit(deployed.source, "The corpus is a bucket")
    git(deployed.source, "checkout", "-q", "main")
    return deployed


def test_a_bucket_that_changed_and_rests_starts_one_retrain(watched: Line, stack: State) -> None:
    line, client = watched, s3_client(stack)
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}1.mp4", Body=b"one")
    line.worker()
    began = time.monotonic()
    run = line.submit(WATCH, commit="watched", settle_s=SETTLE_S)
    while line.state(run)[0] != "RUNNING":
        time.sleep(0.2)
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}2.mp4", Body=b"two")  # an upload that goes on
    state = line.wait(run)
    assert state[0] == "COMPLETED" and "the corpus changed; retrain " in state[2], state
    assert time.monotonic() - began > SETTLE_S
    started = UUID(state[2].split("retrain ")[1].split()[0])
    parameters = asked(started)
    assert (parameters["reason"], parameters["commit"], parameters["jitter_s"]) == ("the corpus changed", "watched", 0)
    # Two files that are no videos: the retrain that was started says so, and registers nothing.
    ended = line.wait(started)
    assert ended[0] == "FAILED" and "stage 'ingest' failed" in ended[2], ended

    again = line.wait(line.submit(WATCH, commit="watched", settle_s=SETTLE_S))
    assert again[1:] == ("Skipped", "the corpus is as it was")
    client.delete_object(Bucket=BUCKET, Key=f"{PREFIX}2.mp4")
    never = line.wait(line.submit(WATCH, commit="watched", settle_s=SETTLE_S, give_up_s=1))
    assert never[1] == "Unsettled", never


def asked(run: UUID) -> dict[str, Any]:
    """The parameters of a flow run."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found: dict[str, Any] = client.read_flow_run(run).parameters
    return found
