"""What a version cost: of the runs since the one before it, under the same names in every run."""

import json
import os
from datetime import datetime
from typing import Any

import pytest

from components.increments import Report
from components.training.journal import JournalWriter
from flows.registration.costs import costs
from flows.workspace.graph import Graph
from flows.workspace.runs import Run
from flows.workspace.workspace import Workspace


def stage(name: str, cpu_s: float, report: str = "", outcome: str = "ran") -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "seconds": 1.0, "report": report, "log": None, "cpu_s": cpu_s}


def record(workspace: Workspace, *stages: dict[str, Any]) -> Run:
    run = Run(workspace)
    for row in stages:
        run.stage(row)
    run.finish("finished")
    return run


def test_the_runs_since_the_last_version_are_added_up(workspace: Workspace, graph: Graph) -> None:
    before = record(workspace, stage("training", 100.0))
    began = json.loads((before.folder / "run.json").read_text())["started"]
    workspace.receipt.write_text("{}")
    os.utime(workspace.receipt, (datetime.fromisoformat(began).timestamp() + 0.5,) * 2)
    assert costs(graph, workspace)["cost/cpu_s"] == 0.0, "that was the version before"

    os.utime(workspace.receipt, (0, 0))
    rows = Report(rows=10, computed=4, kept=6, dropped=0, refused=[])
    record(workspace, stage("features@video", 2.5, f"features video: {rows}"), stage("training", 7.0))
    record(workspace, stage("features@video", 1.0, outcome="failed"), stage("evaluation", 0.25, "evaluation: 3 kept"))
    found = costs(graph, workspace)
    assert found["cost/features.video.cpu_s"] == 3.5 and found["cost/training.cpu_s"] == 107.0
    assert found["cost/cpu_s"] == 110.75 and found["cost/indexing.cpu_s"] == 0.0
    assert (found["cost/rows_computed"], found["cost/rows_kept"], found["cost/gpu_s"]) == (4, 6, 0)
    assert sum(name.endswith(".cpu_s") for name in found) == len(graph.stages)


@pytest.mark.parametrize(("device", "held"), [("cpu", 0.0), ("NVIDIA H100", 18.0)])
def test_gpu_seconds_are_those_of_all_processes(workspace: Workspace, graph: Graph, device: str, held: float) -> None:
    journal = JournalWriter(graph.files.journal, "data")
    journal.begin(resumed=False)
    journal.end("weights", {"device": device, "seconds": 9.0, "processes": 2})
    graph.files.summary.write_text(json.dumps({"weights_sha256": "weights"}))
    assert costs(graph, workspace)["cost/gpu_s"] == 0.0, "it did not run here"
    record(workspace, stage("training", 7.0))
    assert costs(graph, workspace)["cost/gpu_s"] == held
