"""The evaluation's numbers, as the few that people look at first."""

import json
from typing import Any

from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace

MODES = ("video", "text", "video+text")


def read_metrics(graph: Graph, workspace: Workspace) -> dict[str, Any] | None:
    """The whole of the evaluation's metrics.json; None where the graph has no evaluation."""
    if "evaluation" not in graph:
        return None
    path = workspace.root / graph["evaluation"].argument("metrics")
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return metrics


def headline(graph: Graph, workspace: Workspace) -> dict[str, Any] | None:
    """R@10 per query mode, video to music at track level: value, interval, ratio to chance and oracle."""
    metrics = read_metrics(graph, workspace)
    if metrics is None:
        return None
    chance = metrics["pool"]["chance"]["R@10"]
    modes = metrics["track"]["video_to_music"]
    ratios = metrics.get("ratio_to_oracle") or {}
    return {
        "pool": metrics["pool"]["size"],
        "queries": metrics["pool"]["queries"],
        "chance": chance,
        "modes": [
            {
                "mode": mode,
                **{key: modes[mode]["R@10"][key] for key in ("value", "low", "high")},
                "times_chance": modes[mode]["R@10"]["value"] / chance,
                "of_oracle": _number(ratios.get(mode)),
                "median_rank": _number(modes[mode].get("MedR")),
            }
            for mode in MODES
            if mode in modes
        ],
    }


def _number(value: Any) -> float | None:
    """A plain number, or the value of a `{value, low, high}` or per-metric mapping."""
    if isinstance(value, dict):
        value = value.get("R@10", value.get("value"))
        return _number(value)
    return None if value is None else float(value)
