"""What a version cost: the stages that ran since the one before it was registered, by the records of the workspace's runs.

Every run has the same metrics, so that runs can be compared: a stage that did not run cost nothing. Work that was killed is
not on record, nor what registration and gate took.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final

from flows.registration.curves import journal_of_model
from flows.registry.names import metric
from flows.workspace.graph import Graph
from flows.workspace.runs import read_runs
from flows.workspace.workspace import Workspace

_ROWS: Final = re.compile(r"(\d+) (?:computed|rendered|fetched), (\d+) kept")
"""In a stage's own line of what it did: rows that it made, and rows that it was spared."""


def costs(graph: Graph, workspace: Workspace) -> dict[str, float]:
    """Return the metrics: CPU seconds of each stage and of all, rows made and rows kept, and GPU seconds of training.

    GPU seconds are those for which training held its GPUs; 0 on a CPU, and where the model came from DVC's cache.
    """
    stages = _since_last_version(workspace)
    figures = {f"cost/{_name(stage.name)}.cpu_s": 0.0 for stage in graph.stages}
    made = kept = 0
    for row in stages:
        name = f"cost/{_name(row['name'])}.cpu_s"
        figures[name] = round(figures.get(name, 0.0) + row.get("cpu_s", 0.0), 2)
        if rows := _ROWS.search(row["report"]):
            made, kept = made + int(rows[1]), kept + int(rows[2])
    return figures | {
        "cost/cpu_s": round(sum(figures.values()), 2),
        "cost/gpu_s": _gpu_s(graph, {row["name"] for row in stages if row["outcome"] == "ran"}),
        "cost/rows_computed": float(made),
        "cost/rows_kept": float(kept),
    }


def _since_last_version(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the stages on record of the runs that began after the last registration."""
    try:
        last = datetime.fromtimestamp(workspace.receipt.stat().st_mtime, UTC)
    except FileNotFoundError:
        last = datetime.min.replace(tzinfo=UTC)
    runs = [run for run in read_runs(workspace) if datetime.fromisoformat(run["started"]) >= last]
    return [stage for run in runs for stage in run["stages"]]


def _gpu_s(graph: Graph, ran: set[str]) -> float:
    journal = journal_of_model(graph)
    trains = next((stage.name for stage in graph.stages if "journal" in stage.arguments), None)
    if journal is None or trains not in ran or journal.speed["device"] == "cpu":
        return 0.0
    return float(journal.speed["seconds"] * journal.speed["processes"])


def _name(stage: str) -> str:
    return metric(stage.replace("@", "."))
