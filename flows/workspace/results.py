"""The evaluation's numbers, as the few that people look at first."""

from typing import Any

from components.evaluation.metrics_file import MODES, Metrics, MetricsError
from components.evaluation.metrics_file import read_metrics as read_file
from flows.errors import Refusal
from flows.workspace.graph import Graph

__all__ = ["MODES", "headline", "read_metrics"]


def read_metrics(graph: Graph) -> Metrics | None:
    """The whole of the evaluation's metrics.json; None where the graph has no evaluation.

    Raises:
        Refusal: it is not there, is damaged, or was written by another version.
    """
    if "evaluation" not in graph:
        return None
    path = graph.files.metrics
    try:
        return read_file(path, graph.relative(path))
    except MetricsError as error:
        raise Refusal(f"{error}; `needledrop retrain` writes it anew") from None


def headline(graph: Graph) -> dict[str, Any] | None:
    """R@10 per query mode, video to music at track level: value, interval, ratio to chance and oracle."""
    metrics = read_metrics(graph)
    if metrics is None:
        return None
    pool, reached = metrics.pool, metrics.track.video_to_music
    modes = []
    for mode in (mode for mode in MODES if mode in reached):
        recall, ratio = reached[mode].recall_at_10, metrics.ratio_to_oracle.get(mode)
        modes.append(
            {
                "mode": mode,
                **recall.model_dump(),
                "times_chance": recall.value / pool.chance.recall_at_10,
                "of_oracle": None if ratio is None else ratio.recall_at_10,
                "median_rank": reached[mode].median_rank.value,
            }
        )
    return {"pool": pool.size, "queries": pool.queries, "chance": pool.chance.recall_at_10, "modes": modes}
