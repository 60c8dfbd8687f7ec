"""A training's curves as MLflow keeps them: each figure once, at the moment when it was seen.

What a run shows of a training while it runs comes from its journal, a line a second or fewer; registration adds the steps
between from the history. Both give a step the same moment, so that the time axis of a chart stays in order.
"""

import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from components.training.journal import Journal, Line, read_journal
from flows.registry.names import metric as metric_name
from flows.workspace.graph import Graph

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

BATCH: Final = 1000  # metrics in one request, MLflow's limit
OF_THE_MACHINE: Final = "progress/"
"""How the names of figures begin that do not repeat when a step is repeated."""


def of_line(line: Line) -> "list[Metric]":
    """Return the metrics of a journal's line."""
    from mlflow.entities import Metric

    return [Metric(metric_name(name), value, _ms(line.at), line.step) for name, value in line.figures.items()]


def of_training(graph: Graph) -> "list[Metric]":
    """Return every figure of the training that made the model: all steps of the history, and the journal's of the machine."""
    import pyarrow.parquet as pq
    from mlflow.entities import Metric

    history = pq.ParquetFile(graph.files.history).read().to_pylist()
    journal = journal_of_model(graph)
    lines = journal.lines if journal else ()
    steps = [row["step"] for row in history]
    if lines:
        seen = np.interp(steps, [line.step for line in lines], [line.at for line in lines]).tolist()
    else:
        seen = [time.time()] * len(steps)
    metrics = [
        Metric(metric_name(row["name"]), row["value"], _ms(at), row["step"])
        for row, at in zip(history, seen, strict=True)
        if math.isfinite(row["value"])
    ]
    machine = [metric for line in lines for metric in of_line(line) if metric.key.startswith(OF_THE_MACHINE)]
    return metrics + machine


def journal_of_model(graph: Graph) -> Journal | None:
    """Return the journal of the training that made the model; None where the model came from DVC's cache, or from elsewhere."""
    journal = read_journal(graph.files.journal)
    return journal if journal and journal.weights_sha256 == _weights(graph.files.summary) else None


def held(client: "MlflowClient", run: "Run") -> dict[tuple[str, int], float]:
    """Return every figure that a run holds by now, by metric and step."""
    points = (point for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name))
    return {(point.key, point.step): point.value for point in points}


def log(client: "MlflowClient", run_id: str, metrics: "Iterable[Metric]") -> None:
    """Log those of the metrics that the run does not hold yet."""
    there = held(client, client.get_run(run_id))
    new = [metric for metric in metrics if (metric.key, metric.step) not in there]
    for start in range(0, len(new), BATCH):
        client.log_batch(run_id, metrics=new[start : start + BATCH])


def _ms(at: float) -> int:
    return round(1000 * at)


def _weights(summary: Path) -> str | None:
    try:
        return str(json.loads(summary.read_text(encoding="utf-8"))["weights_sha256"])
    except (FileNotFoundError, KeyError):
        return None
