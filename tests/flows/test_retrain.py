"""The flow on toy graphs: order, skipping, failure, interruption, and recovery from a kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from flows.workspace.graph import load_graph
from flows.workspace.run_stage import StageFailed
from flows.workspace.runs import read_runs
from flows.workspace.workspace import Workspace

from .conftest import DIAMOND, Cli, gone

MakeToy = Callable[[str], Workspace]

SLOW = """
stages:
  slow:
    cmd: echo $$ > pid; if [ -e in.txt ]; then sleep 300; fi; echo > slow.txt
    outs: [slow.txt]
"""
BROKEN = """
stages:
  bad: {cmd: "echo 'error: row 3 is wrong'; exit 1", outs: [bad.txt]}
  after: {cmd: cp bad.txt after.txt, deps: [bad.txt], outs: [after.txt]}
"""


def outcomes(workspace: Workspace, prefect_server: str) -> dict[str, str]:
    from flows.retrain import retrain

    return {result.name: result.outcome for result in retrain(workspace.root).stages}


def test_a_run_then_nothing_then_only_what_changed(
    toy: MakeToy, prefect_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = toy(DIAMOND)
    assert outcomes(workspace, prefect_server) == dict.fromkeys(["first", "branch@left", "branch@right", "last"], "ran")
    assert (workspace.root / "last.txt").read_text() == "input\nl\ninput\nr\n"
    shown = capsys.readouterr().out
    assert "first | making first" in shown and "last, 4 rows" in shown

    assert set(outcomes(workspace, prefect_server).values()) == {"skipped"}
    assert not list((workspace.runs / read_runs(workspace)[0]["id"]).glob("*.log")), "nothing was started"

    (workspace.root / "right.txt").unlink()
    assert outcomes(workspace, prefect_server) == {
        "first": "skipped", "branch@left": "skipped", "branch@right": "restored", "last": "skipped",
    }  # fmt: skip


MEANWHILE = """
stages:
  first:
    cmd: cp in.txt first.txt
    deps: [in.txt]
    params: [training.steps]
    outs: [first.txt]
  second:
    cmd: >-
      cp first.txt second.txt; sed -i 's/  steps: 250/  steps: 999/' params.yaml
    deps: [first.txt]
    outs: [second.txt]
  third:
    cmd: cp second.txt third.txt
    deps: [second.txt]
    params: [training.seed]
    outs: [third.txt]
"""


def test_an_edit_of_what_has_run_is_said_and_is_what_the_next_run_does(
    toy: MakeToy, prefect_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = toy(MEANWHILE)
    assert set(outcomes(workspace, prefect_server).values()) == {"ran"}
    assert (
        "note: training.steps: 250 -> 999 since this run began, and an edit belongs to the next"
        in capsys.readouterr().out
    )
    assert load_graph(workspace.root)["first"].reasons == ("training.steps: 250 -> 999",)


def test_after_a_failure_nothing_that_depends_on_it_starts(toy: MakeToy, prefect_server: str) -> None:
    workspace = toy(BROKEN)
    with pytest.raises(StageFailed, match=r"(?s)error: row 3 is wrong.*not started: after"):
        outcomes(workspace, prefect_server)
    (run,) = read_runs(workspace)
    assert run["state"] == "failed"
    assert [stage["name"] for stage in run["stages"]] == ["bad"]


def test_a_failure_is_told_once(toy: MakeToy, prefect_server: str, cli: Cli) -> None:
    done = cli("retrain", cwd=toy(BROKEN).root, PREFECT_API_URL=prefect_server)
    assert done.returncode == 1
    shown = [line for line in (done.stdout + done.stderr).splitlines() if "error: row 3 is wrong" in line]
    assert len(shown) == 2, "once as the stage's own line, once in the error that ends the run"
    assert (done.stdout + done.stderr).count("stage 'bad' failed") == 1


def test_with_nothing_to_do_prefect_is_not_started(toy: MakeToy, prefect_server: str, cli: Cli) -> None:
    workspace = toy(DIAMOND)
    outcomes(workspace, prefect_server)
    # A Prefect server that does not answer refuses a run; here nobody asks it.
    done = cli("retrain", "--json", cwd=workspace.root, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert (done.returncode, "nothing to do: all 4 stages are up to date" in done.stderr) == (0, True), done.stderr
    told = json.loads(done.stdout)
    assert {stage["outcome"] for stage in told["stages"]} == {"skipped"} and len(told["stages"]) == 4
    assert (read_runs(workspace)[0]["state"], read_runs(workspace)[0]["id"]) == ("finished", told["run"])

    (workspace.root / "in.txt").write_text("other\n")
    done = cli("retrain", cwd=workspace.root, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1 and "does not answer" in done.stderr, "what has something to do needs it"


def test_both_ways_to_say_that_nothing_was_done_have_the_same_keys(toy: MakeToy, prefect_server: str, cli: Cli) -> None:
    workspace = toy(DIAMOND)
    outcomes(workspace, prefect_server)
    first, idle = read_runs(workspace)[0], cli("retrain", "--json", cwd=workspace.root)
    record = read_runs(workspace)[0]
    expected = {"run", "stages", "metrics", "registration", "gate", "verdict", "refusal"}
    assert json.loads(idle.stdout).keys() == expected
    assert record.keys() == first.keys()


def start(workspace: Workspace, environment: dict[str, str], server: str) -> tuple["subprocess.Popen[str]", int]:
    """Start a retrain in another process; return it and the pid of its slow stage, once that runs."""
    command = [sys.executable, "-m", "flows.cli", "retrain"]
    process = subprocess.Popen(
        command,
        cwd=workspace.root,
        env=environment | {"PREFECT_API_URL": server},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell that runs us in the background ignores SIGINT for all it starts; a person's does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for _ in range(1200):
        if (workspace.root / "pid").exists() and (text := (workspace.root / "pid").read_text().strip()):
            return process, int(text)
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("the slow stage did not start")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_signal_stops_the_stage_too(
    toy: MakeToy, prefect_server: str, clean_environment: dict[str, str], number: signal.Signals
) -> None:
    workspace = toy(SLOW)
    process, stage = start(workspace, clean_environment, prefect_server)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.rstrip().endswith("error: interrupted") and "Traceback" not in output
    assert gone(stage)
    assert read_runs(workspace)[0]["state"] == "interrupted"


def test_a_second_run_is_busy_and_the_next_one_clears_up_after_a_kill_9(
    toy: MakeToy, prefect_server: str, clean_environment: dict[str, str], cli: Cli
) -> None:
    workspace = toy(SLOW)
    process, stage = start(workspace, clean_environment, prefect_server)
    second = cli("retrain", "--json", cwd=workspace.root)
    assert second.returncode == 5
    assert f"process {process.pid}" in second.stderr
    assert json.loads(second.stdout)["code"] == 5

    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not gone(stage, within_s=0.2), "the stage is in a session of its own"
    (workspace.root / "in.txt").unlink()
    rwlock = workspace.root / ".dvc/tmp/rwlock"
    assert json.loads(rwlock.read_text())["write"], "the killed dvc left its entry"
    done = cli("retrain", "--json", cwd=workspace.root, PREFECT_API_URL=prefect_server)
    assert done.returncode == 0, done.stderr
    assert [row["outcome"] for row in json.loads(done.stdout)["stages"]] == ["ran"]
    assert gone(stage)
    assert [run["state"] for run in read_runs(workspace)] == ["finished", "killed"]
