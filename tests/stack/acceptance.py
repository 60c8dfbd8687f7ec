"""The acceptance test: from nothing to a rolled-back champion on real servers, as one readable log.

`python -m tests.stack.acceptance` starts a stack of its own, deploys, lets a schedule fire, promotes what comes
of it, shifts the corpus, lets drift start a retrain, decides about that, rolls back, and takes all down.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import yaml

from flows.environment import prepare
from flows.workspace.workspace import Workspace
from infra.ports import free_ports
from infra.stack import down, parts, up
from infra.state import BUCKETS, USER, State
from infra.swift import s3_client
from tests.pipeline.conftest import ROOT, SMALL
from tests.security import scan
from tests.stack.deployed_line import Line, below, commit, kill, make_source

SWIFT = ROOT / ".needledrop" / "stack" / "swift-venv"
RETRAIN, MONITOR = "needledrop-retrain/retrain", "needledrop-monitor/monitor"
ROLLBACK = "needledrop-rollback/rollback"
HOOK = "webhook-secret-4711"
ZONE = "Europe/Berlin"  # of the schedule in prefect.yaml
LINEAR = {"kind": "cca", "directions": 32, "share": 0.7}
SECTIONS = SMALL | {
    "encoder": {"linear": {"kind": "none"}},  # the first champion is the paper's plain form; a better one follows
    "corpus": {"clips": 200, "seed_clips": 60, "clip_s": 4.0},
    "training": {"steps": 80, "warmup_steps": 10, "validate_every": 40, "batch": 64},
}


class Story:
    """Prints what happens, with the time since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, words: str) -> None:
        seconds = int(time.monotonic() - self._began)
        print(f"[{seconds // 60:>3}:{seconds % 60:02}] {words}", flush=True)

    def check(self, holds: bool, words: str) -> None:
        """Say what was found; end where it is not so."""
        self.say(f"  {'yes' if holds else 'NO'}  {words}")
        if not holds:
            raise SystemExit(f"acceptance: {words}: no")


class Mailbox:
    """Where the webhook leads: it keeps what is posted."""

    def __init__(self) -> None:
        messages: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.messages = messages
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/{HOOK}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def having(self, words: str) -> int:
        """How many messages hold these words."""
        return sum(words in message for message in self.messages)


def main() -> None:
    """Run the whole; leave nothing behind unless told to keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", action="store_true", help="leave the folder and the stack for a look")
    keep = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="needledrop-acceptance-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    story, line, mailbox = Story(), None, Mailbox()
    try:
        state = start_stack(folder, story)
        line = deployed(folder, state, mailbox, story)
        first = scheduled_retrain(line, state, story)
        promote(line, first, story)
        again_and_twice(line, story)
        forth_and_back(line, first, story)
        told = [mailbox.having(f"by {USER}\n{words}") for words in ("acceptance", "first champion", "instead of")]
        story.check(told == [2, 1, 1], "approvals, promotions and the rollback were told, each once")
        story.check(mailbox.having("rollback failed") == 1, "and so was the run that was refused")
        decide(line, first, drift(line, mailbox, story), story)
        reproduce(line, story)
        said = line.command("audit", "verify").splitlines()[0]
        story.check("releases agree with it" in said, f"the audit log verifies: {said}")
        no_secret(folder, state, story)
    finally:
        if not keep:
            take_down(folder, line, story)
    story.say("accepted")


def start_stack(folder: Path, story: Story) -> State:
    """Start the servers; say what they cost."""
    began = time.monotonic()
    state = up(folder / "stack", free_ports(), worker=False, swift_venv=SWIFT, say=story.say)
    memory = sum(part.memory_mib() for part in parts(state, SWIFT) if part.process())
    story.say(f"the stack is healthy after {time.monotonic() - began:.0f} s and takes {memory:.0f} MiB")
    return state


def deployed(folder: Path, state: State, mailbox: Mailbox, story: Story) -> Line:
    """Deploy a small project with a schedule that fires in the next minute but one, and start a worker."""
    source = make_source(folder / "source", SECTIONS)
    settings = yaml.safe_load((ROOT / "flows" / "gate" / "gate.yaml").read_text())
    # Few clips, few steps, and a machine that trains, serves and measures at once.
    settings["gate"]["margins"]["latency"] = 3.0
    settings["gate"]["floors"] = {"times_chance": 1.5, "above_cca": False}
    (source / "gate.yaml").write_text(yaml.safe_dump(settings))
    commit(source, "Limits of the gate")
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("NEEDLEDROP_", "MLFLOW_", "PREFECT_", "AWS_"))}
    more = {"PREFECT_HOME": str(folder / "prefect"), "NEEDLEDROP_WEBHOOK_URL": mailbox.url}
    line = Line(source, folder / "home", rest | state.exports() | more)
    os.environ.update(line.environment)
    prepare(Workspace(source).prefect_home)
    at = datetime.now(ZoneInfo(ZONE)) + timedelta(seconds=120)
    for said in line.command("deploy", "--retrain-cron", f"{at.minute} {at.hour} * * *", "--jitter", "0").splitlines():
        story.say(f"  {said}")
    line.worker()
    story.say("a worker runs; nobody starts anything now")
    return line


def scheduled_retrain(line: Line, state: State, story: Story) -> int:
    """Wait for the schedule; look where the version and its artifacts are."""
    run = wait_for_scheduled(line)
    late = (run.start_time - run.expected_start_time).total_seconds()
    story.check(
        late < 60, f"the schedule fired by itself at {run.expected_start_time:%H:%M}, {late:.0f} s after its time"
    )
    version = finished(line, run.id, story)
    where = line.environment["MLFLOW_TRACKING_URI"]
    count = rows(state.database("mlflow", "postgresql+psycopg2"), "select count(*) from model_versions")
    story.check(count == 1, f"version {version} is in MLflow at {where}, on PostgreSQL")
    objects = artifacts(line)
    story.check(len(objects) > 10, f"{len(objects)} artifacts are in S3, such as {objects[0]}")
    return version


def promote(line: Line, version: int, story: Story) -> None:
    """Approve and promote a version that its gate has let through or could not judge, by commands."""
    override = ["--override-inconclusive"] if release(line, version)["state"] == "inconclusive" else []
    line.command("approve", str(version), "--by", USER, "--reason", "acceptance", *override)
    line.command("promote", str(version), "--by", USER)
    story.check(champion(line) == version, f"version {version} is approved and the champion")


def again_and_twice(line: Line, story: Story) -> None:
    """Nothing changed: skipped. Two at once: one after the other, and both right."""
    state = line.wait(line.submit(RETRAIN))
    story.check(state[1] == "Skipped", f"a retrain with nothing new is skipped: {state[2]}")
    both = [line.submit(RETRAIN, force=True, gating=False) for _ in range(2)]
    ended = [line.wait(run) for run in both]
    story.check([one[0] for one in ended] == ["COMPLETED"] * 2, "two retrains submitted at once both ended well")
    began, until = zip(*sorted(times(run) for run in both), strict=True)
    story.check(until[0] <= began[1], "the second began when the first had ended")


def forth_and_back(line: Line, first: int, story: Story) -> None:
    """Train a better model; approve, promote and roll back by the buttons of Prefect's page."""
    second = finished(
        line, line.submit(RETRAIN, overrides={"encoder.linear": LINEAR}, reason="with linear paths"), story
    )
    state = release(line, second)["state"]
    story.check(state != "failed", f"version {second} may be approved ({state})")
    by_button(line, "needledrop-approve/approve", story, version=second, by=USER, reason="acceptance",
              override_inconclusive=state == "inconclusive")  # fmt: skip
    by_button(line, "needledrop-promote/promote", story, version=second, by=USER, expected_champion=first)
    story.check(champion(line) == second, f"version {second} is the champion")
    wrong = line.wait(line.submit(ROLLBACK, by=USER, reason="acceptance", expected_champion=first))
    story.check(
        wrong[0] == "FAILED" and champion(line) == second, f"a rollback of another champion is refused: {wrong[2]}"
    )
    by_button(line, ROLLBACK, story, by=USER, reason="acceptance", expected_champion=second)
    story.check(champion(line) == first, f"rolled back: version {first} is the champion again")


def drift(line: Line, mailbox: Mailbox, story: Story) -> int:
    """Shift the corpus; the monitor finds it and starts a retrain; return the version that comes of it."""
    params = line.source / "params.yaml"
    tree = yaml.safe_load(params.read_text())
    world = line.source / tree["corpus"]["source"]
    described = yaml.safe_load(world.read_text())
    described["tempo"]["centre_bpm"] = 138.0
    for mood in described["moods"].values():
        mood["hues"] = [(hue + 60) % 360 for hue in mood["hues"]]
    world.write_text(yaml.safe_dump(described, sort_keys=False))
    tree["corpus"]["seed"] += 1
    params.write_text(yaml.safe_dump(tree, sort_keys=False))
    commit(line.source, "The corpus of this season: faster music, other colours")
    story.say("the corpus has shifted: other clips, faster music, other colours")
    run = line.submit(MONITOR)
    state = line.wait(run)
    story.check(state[0] == "COMPLETED" and "drift in" in state[2], f"the monitor says: {state[2]}")
    started = result(line, run)["flow_run"]
    story.check(bool(started), "and has started a retrain by itself")
    story.check(mailbox.having(state[2]) == 1, "the webhook got one message with these words")
    version = finished(line, UUID(started), story)
    run = line.submit(MONITOR)
    again = line.wait(run)
    none = again[0] == "COMPLETED" and result(line, run)["flow_run"] is None
    story.check(none, f"for the same media the monitor does not start another: {again[2]}")
    story.check(mailbox.having(state[2].split(";")[0]) == 1, "and the webhook got no second message")
    return version


def decide(line: Line, first: int, last: int, story: Story) -> None:
    """Do with the version that drift has made what its gate allows."""
    state = release(line, last)["state"]
    if state == "passed":
        promote(line, last, story)
        return
    refused = 3 if state == "failed" else 4
    line.command("approve", str(last), "--by", USER, "--reason", "acceptance", expect=refused)
    story.check(
        champion(line) == first, f"version {last} cannot be approved, its gate is {state}; {first} stays the champion"
    )


def by_button(line: Line, deployment: str, story: Story, **parameters: Any) -> None:
    """Run a deployment through the worker, as the button on Prefect's page does."""
    state = line.wait(line.submit(deployment, **parameters))
    story.check(state[0] == "COMPLETED", f"deployment {deployment.partition('/')[2]}: {state[2]}")


def reproduce(line: Line, story: Story) -> None:
    """Evaluate the champion again, from what is recorded of it, and compare to the bit."""
    said = line.command("reproduce", "models:/needledrop@champion", cwd=line.slot)
    story.check("equal to the bit" in said, f"reproduce models:/needledrop@champion: {said.splitlines()[1]}")


def no_secret(folder: Path, state: State, story: Story) -> None:
    """Look for every password wherever anything was written: by retrains, gates, monitors and deployed decisions."""
    secrets = {*state.secrets.values(), HOOK}
    urls = [state.database(name, "postgresql+psycopg2") for name in ("mlflow", "prefect", "ledger")]
    story.check(
        list(scan.in_databases(urls, secrets)) == [], "no password is in MLflow's, Prefect's or the ledger's tables"
    )
    story.check(list(scan.in_buckets(s3_client(state), BUCKETS, secrets)) == [], "none is in an artifact in S3")
    private = [
        f"stack/{name}" for name in ("env", "secrets.json", "mlflow-auth.ini", "swift/etc", "swift/devices", "postgres")
    ]
    found = list(scan.in_files(folder, secrets, [*private, "home/cache"]))
    story.check(found == [], f"none is in a workspace, report or log {found[:3] or ''}".rstrip())


def take_down(folder: Path, line: Line | None, story: Story) -> None:
    """Stop the worker and the servers; nothing of ours is left running."""
    if line is not None:
        line.stop()
    story.say(f"stopped: {', '.join(down(folder / 'stack'))}")
    left = list(below(folder))
    kill(left)
    story.check(not left, "nothing is left running")
    shutil.rmtree(folder)


# -- looking at what happened --------------------------------------------------------------------


def wait_for_scheduled(line: Line, within_s: float = 300.0) -> Any:
    """Wait until a run that nobody asked for has begun."""
    from prefect.client.orchestration import get_client

    deadline = time.monotonic() + within_s
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            line.worker()
            for run in client.read_flow_runs():
                if run.auto_scheduled and run.start_time is not None:
                    return run
            time.sleep(1)
    raise SystemExit(f"acceptance: no scheduled run began within {within_s:.0f} s\n{line.said()}")


def finished(line: Line, run: UUID, story: Story) -> int:
    """Wait for a retrain; return the version that it registered."""
    state = line.wait(run)
    story.check(
        state[0] == "COMPLETED", f"the worker has run it: {state[2] if state[0] == 'COMPLETED' else line.said()}"
    )
    done = result(line, run)
    if done["gate"]:
        story.say(f"  the gate says: {done['gate']['words']['headline']}. {done['gate']['words']['found']}")
        for check in done["gate"]["checks"]:
            story.say(f"    {check['outcome']:<12} {check['asks']}: {check['found']}")
    return int(done["registration"]["version"])


def result(line: Line, run: UUID) -> dict[str, Any]:
    """What a deployed run left in the ledger."""
    from sqlalchemy import create_engine, text

    with create_engine(line.environment["NEEDLEDROP_LEDGER_URL"]).connect() as ledger:
        found = ledger.execute(text("select result from attempts where run = :run"), {"run": str(run)}).scalar_one()
    content: dict[str, Any] = json.loads(found)
    return content


def times(run: UUID) -> tuple[datetime, datetime]:
    """When a run began and ended."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run)
    assert found.start_time is not None and found.end_time is not None
    return found.start_time, found.end_time


def release(line: Line, version: int) -> dict[str, Any]:
    """A release as the ledger has it."""
    return next(one for one in releases(line) if one["version"] == version)


def releases(line: Line) -> list[dict[str, Any]]:
    """Every release."""
    from sqlalchemy import create_engine, text

    with create_engine(line.environment["NEEDLEDROP_LEDGER_URL"]).connect() as ledger:
        return [dict(row) for row in ledger.execute(text("select version, state from releases")).mappings()]


def champion(line: Line) -> int | None:
    """The champion, which ledger and MLflow must agree about."""
    from mlflow import MlflowClient

    decided = [one["version"] for one in releases(line) if one["state"] == "champion"]
    shown = MlflowClient().get_registered_model("needledrop").aliases.get("champion")
    assert [str(version) for version in decided] == ([str(shown)] if shown else []), f"{decided} against {shown}"
    return decided[0] if decided else None


def artifacts(line: Line) -> list[str]:
    """Keys of MLflow's artifacts in S3."""
    import boto3

    found: list[str] = []
    for bucket in BUCKETS:
        listed = boto3.client("s3").list_objects_v2(Bucket=bucket)
        found += [f"s3://{bucket}/{one['Key']}" for one in listed.get("Contents", ()) if "/artifacts/" in one["Key"]]
    return found


def rows(url: str, question: str) -> int:
    """Ask a database for one number."""
    from sqlalchemy import create_engine, text

    with create_engine(url).connect() as connection:
        return int(connection.execute(text(question)).scalar_one())


if __name__ == "__main__":
    sys.exit(main())
