"""The MLflow run of a training while it runs: each figure once, whatever is killed or away in between."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.training.journal import JournalWriter, read_journal
from flows.registration import live as module
from flows.registration.live import SEEN_TAG, TRAINING_TAG, Live, close_left, take_over
from flows.registration.owner import WORKSPACE_TAG, workspace_id
from flows.registration.register import clear_half_runs, register
from flows.registry.tracking import connect, experiment_id
from flows.release.mirror import DIGEST_TAG
from flows.workspace.graph import Graph
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

STEPS = range(1, 41)
SHOWN = (10, 20, 30, 40)  # steps of which the journal tells


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.02)
    monkeypatch.setattr(module, "_AGAIN_S", 0.1)


def loss(step: int) -> float:
    return 4.0 / step


def note(journal: JournalWriter, steps: Sequence[int]) -> None:
    for step in steps:
        journal.note(step, {"loss": loss(step), "progress/samples_per_s": 100.0 + step, "progress/memory_mib": 50.0})


def trained(graph: Graph, journal: JournalWriter, last: float | None = None) -> None:
    """Write what the training leaves when it has ended."""
    journal.end("weights", {"samples_per_s": 120.0, "seconds": 9.0, "peak_memory_mib": 60.0})
    rows = [{"step": step, "name": "loss", "value": loss(step)} for step in STEPS]
    rows[-1]["value"] = rows[-1]["value"] if last is None else last
    pq.write_table(pa.Table.from_pylist(rows), graph.files.history)
    graph.files.summary.write_text(json.dumps({"weights_sha256": "weights"}))


def mlflow_of(workspace: Workspace) -> tuple[Any, str]:
    client = connect(Platform.at(workspace))
    return client, experiment_id(client, workspace, "needledrop")


def runs(workspace: Workspace) -> list[Any]:
    client, experiment = mlflow_of(workspace)
    return list(client.search_runs([experiment]))


def steps_of(workspace: Workspace, run_id: str, name: str) -> list[int]:
    return sorted(point.step for point in mlflow_of(workspace)[0].get_metric_history(run_id, name))


def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def nothing(line: str) -> None:
    raise AssertionError(line)


def killed(workspace: Workspace, graph: Graph, journal: JournalWriter, steps: Sequence[int]) -> str:
    """Show steps in a flow that never comes to its end; return the run's id."""
    with Live(workspace, nothing).following(graph.files.journal):
        note(journal, steps)
    (run,) = [run for run in runs(workspace) if run.info.status == "RUNNING"]
    return str(run.info.run_id)


def test_curves_appear_while_it_runs_and_registration_takes_the_run_over(workspace: Workspace, graph: Graph) -> None:
    journal = JournalWriter(graph.files.journal, "data 1")
    with Live(workspace, nothing) as live:
        with live.following(graph.files.journal):
            journal.begin(resumed=False)
            note(journal, SHOWN[:2])
            until(lambda: bool(runs(workspace)) and "loss" in runs(workspace)[0].data.metrics)
            (shown,) = runs(workspace)
            assert (shown.info.status, shown.data.metrics["loss"]) == ("RUNNING", 0.2)
            assert shown.info.run_name.startswith("training ")
            assert shown.data.params["training.steps"] == "250" and "evaluation.seed" not in shown.data.params
            note(journal, SHOWN[2:])
        trained(graph, journal)
        assert steps_of(workspace, shown.info.run_id, "loss") == [*SHOWN], "what was written last is sent too"
        done = register(graph, Platform.at(workspace))
    (run,) = runs(workspace)
    assert run.info.run_id == done.run_id == shown.info.run_id
    assert run.info.status == "FINISHED" and run.info.run_name.startswith("retrain ")
    assert steps_of(workspace, done.run_id, "loss") == [*STEPS], "the steps between, and none twice"
    assert steps_of(workspace, done.run_id, "progress/samples_per_s") == [*SHOWN]
    assert run.data.metrics["training/samples_per_s"] == 120.0 and "evaluation.seed" in run.data.params
    told = mlflow_of(workspace)[0].get_metric_history(done.run_id, "loss")
    times = [point.timestamp for point in sorted(told, key=lambda point: point.step)]
    assert times == sorted(times), "a chart over time runs forwards"


def test_a_training_that_is_killed_goes_on_in_the_same_run(workspace: Workspace, graph: Graph) -> None:
    journal = JournalWriter(graph.files.journal, "data 1")
    journal.begin(resumed=False)
    first = killed(workspace, graph, journal, SHOWN[:3])
    again = JournalWriter(graph.files.journal, "data 1")
    again.begin(resumed=True)
    with Live(workspace, nothing) as live:
        with live.following(graph.files.journal):
            note(again, SHOWN[1:])  # from the checkpoint
        trained(graph, again)
        client, experiment = mlflow_of(workspace)
        assert take_over(client, experiment, graph, workspace) == first
    assert [run.info.run_id for run in runs(workspace)] == [first]
    assert steps_of(workspace, first, "loss") == steps_of(workspace, first, "progress/memory_mib") == [*SHOWN]
    assert runs(workspace)[0].info.status == "FINISHED", "no version came of it, and nothing failed"
    assert take_over(client, experiment, graph, workspace) == first, "a version may still come of it"

    trained(graph, again, last=7.0)
    assert take_over(client, experiment, graph, workspace) is None, "its last step says something else than the files"


def test_a_server_that_is_away_is_told_once_and_gets_all_later(
    workspace: Workspace, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    journal = JournalWriter(graph.files.journal, "data 1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    away = Live(workspace, said.append)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with away, away.following(graph.files.journal):
        journal.begin(resumed=False)
        note(journal, SHOWN[:1])
        until(lambda: bool(said))
        time.sleep(0.3)  # it is tried again
        note(journal, SHOWN[1:2])
        away._platform = Platform.at(workspace)
        until(lambda: len(said) == 2)
        note(journal, SHOWN[2:])
    assert "does not answer" in said[0] and "training goes on" in said[0] and "answers again" in said[1], said
    assert len(said) == 2
    assert steps_of(workspace, runs(workspace)[0].info.run_id, "loss") == [*SHOWN]


def test_a_stage_that_writes_nothing_opens_no_run(workspace: Workspace, graph: Graph) -> None:
    journal = JournalWriter(graph.files.journal, "an earlier training")
    journal.begin(resumed=False)
    note(journal, SHOWN)
    with Live(workspace, nothing) as live, live.following(graph.files.journal):
        time.sleep(0.2)
    assert runs(workspace) == []


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_flow_that_fails_closes_the_run(
    workspace: Workspace, graph: Graph, error: type[BaseException], status: str
) -> None:
    journal = JournalWriter(graph.files.journal, "data 1")
    with pytest.raises(error), Live(workspace, nothing) as live:
        with live.following(graph.files.journal):
            journal.begin(resumed=False)
            note(journal, SHOWN[:1])
        raise error
    (run,) = runs(workspace)
    assert run.info.status == status and "`needledrop retrain`" in run.data.tags["mlflow.note.content"]


def test_a_run_that_nobody_writes_to_is_closed_and_stays(workspace: Workspace, graph: Graph) -> None:
    journal = JournalWriter(graph.files.journal, "data 1")
    journal.begin(resumed=False)
    left = killed(workspace, graph, journal, SHOWN[:2])
    client, experiment = mlflow_of(workspace)
    other = {WORKSPACE_TAG: "another", TRAINING_TAG: "t", SEEN_TAG: str(int(time.time()))}
    alive = client.create_run(experiment, tags=other).info.run_id
    lost = client.create_run(experiment, tags=other | {SEEN_TAG: str(int(time.time() - 4000))}).info.run_id
    half = client.create_run(experiment, tags={WORKSPACE_TAG: workspace_id(workspace), DIGEST_TAG: "x"}).info.run_id

    assert clear_half_runs(client, experiment, workspace_id(workspace), "another digest") == 1, "the half registration"
    assert half not in {run.info.run_id for run in runs(workspace)}
    assert close_left(client, experiment, workspace) == 2
    found = {run.info.run_id: run.info.status for run in runs(workspace)}
    assert found == {left: "KILLED", lost: "KILLED", alive: "RUNNING"}
    assert steps_of(workspace, left, "loss") == [*SHOWN[:2]]


def test_two_workspaces_that_were_one_show_their_trainings_apart(workspace: Workspace, graph: Graph) -> None:
    import shutil

    journal = JournalWriter(graph.files.journal, "data 1")
    journal.begin(resumed=False)
    first = killed(workspace, graph, journal, SHOWN[:1])
    copy = Workspace(shutil.copytree(workspace.root, workspace.root.with_name("copy"), symlinks=True))
    shutil.rmtree(copy.state)
    copy.state.symlink_to(workspace.state)  # both have one server
    path = copy.root / graph.files.journal.relative_to(workspace.root)
    again = JournalWriter(path, "data 1")
    again.begin(resumed=True)
    with Live(copy, nothing).following(path):
        note(again, SHOWN[1:])
    told = read_journal(path)
    assert told is not None and len(told.lines) == 4
    assert len({run.info.run_id for run in runs(workspace)}) == 2
    assert steps_of(workspace, first, "loss") == [10]
