"""What a registered model's MLflow run holds: enough to judge the model and to make it again."""

import json
import math
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from components.evaluation.metrics_file import Metrics
from components.features.hf.carried import write_carried
from components.features.params import HfParams
from components.params import read_all
from components.settings import PARAMS_FILE
from flows.registration import curves
from flows.registration.code import MODEL_FILE, requirements
from flows.registration.costs import costs
from flows.registration.parameters import flatten, log_params
from flows.registration.prompts import record_prompt
from flows.registry.digest import Digests
from flows.registry.names import metric
from flows.workspace.graph import Graph
from flows.workspace.platform import Platform
from flows.workspace.provenance import environment_text, git_state
from flows.workspace.results import headline, read_metrics
from flows.workspace.workspace import LOCK_FILE, Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

METRIC_KEYS = 180
CORPUS_REPORT = "corpus.html"


def record(client: "MlflowClient", run_id: str, graph: Graph, workspace: Workspace, names: Digests) -> None:
    """Write params, metrics, the dataset, tables, reports and provenance into the run, which is the active one."""
    import mlflow

    root = workspace.root
    commit, dirty = git_state(root)
    tags = {f"needledrop.{name}": value for name, value in asdict(names).items()}
    for name, value in (tags | {"mlflow.source.git.commit": commit, "needledrop.git_dirty": dirty}).items():
        client.set_tag(run_id, name, value)
    log_params(client, run_id, workspace)
    log_metrics(client, run_id, graph, workspace)
    log_dataset(graph, workspace, names)
    files = graph.files
    for path, folder in (
        (root / LOCK_FILE, None),
        (root / PARAMS_FILE, None),
        (files.metrics, "evaluation"),
        (files.ranks, "evaluation"),
    ):
        mlflow.log_artifact(str(path), folder)
    mlflow.log_artifacts(str(files.plots), "plots")
    if summary := headline(graph):
        columns = {key: [row[key] for row in summary["modes"]] for key in summary["modes"][0]}
        mlflow.log_table(columns, "evaluation/summary.json")
    mlflow.log_text(environment_text(), "environment.txt")
    for stage in graph.stages:
        if "docs" in stage.arguments:
            mlflow.log_artifacts(str(root / stage.argument("docs")), f"{stage.name}-docs")
    record_prompt(client, run_id, read_all(root / PARAMS_FILE).captioning)
    for stage in graph.stages:
        if "quality" in stage.arguments:
            mlflow.log_artifacts(str(root / stage.argument("quality")), f"{stage.name}-quality")
            mlflow.log_metrics(caption_quality(root / stage.argument("quality")))
    log_memory(graph, workspace)


def log_memory(graph: Graph, workspace: Workspace) -> None:
    """Log which clips this version saw, what new media are compared with, and how its own differ from the champion's."""
    import mlflow

    from flows.drift.corpus import Corpus
    from flows.drift.evidently import write_corpus_report
    from flows.drift.logged import champion_reference
    from flows.drift.stored import FOLDER as DRIFT
    from flows.drift.stored import write_reference
    from flows.lineage.written import write_lineage
    from flows.release.clips import FOLDER as LINEAGE
    from flows.release.clips import HISTORY

    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / LINEAGE).mkdir()
        write_lineage(graph, workspace, Path(scratch) / LINEAGE)
        shutil.copy(graph.files.splits, Path(scratch) / LINEAGE / HISTORY)  # without it no split could be made again
        reference = write_reference(graph, workspace, Path(scratch) / DRIFT)
        mlflow.log_artifacts(scratch)
    page = workspace.reports / CORPUS_REPORT
    splits = {str(row["clip_id"]): str(row["split"]) for row in Corpus(graph, workspace).rows}
    write_corpus_report(page, reference, splits, champion_reference(Platform.at(workspace)))
    mlflow.log_artifact(str(page), "reports")


def model_source(graph: Graph, workspace: Workspace) -> str:
    """Log the model into the active run; return the URI to register."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    asked = (("string", "video"), ("string", "text"), ("long", "k"))
    inputs: list[ColSpec | TensorSpec] = [ColSpec(kind, name, required=False) for kind, name in asked]
    answered: list[ColSpec | TensorSpec] = [
        *(ColSpec("long", name) for name in ("query", "rank")),
        ColSpec("double", "score"),
        *(ColSpec("string", name) for name in ("clip_id", "track_id")),
        *(ColSpec("string", name, required=False) for name in ("title", "artist")),
        *(ColSpec("double", name) for name in ("start_s", "end_s")),
        ColSpec("string", "tags"),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        code = shutil.copytree(
            workspace.root / "components",
            Path(scratch) / "components",
            ignore=shutil.ignore_patterns("__pycache__", "mini_bloom"),
        )
        section = read_all(workspace.root / PARAMS_FILE).features
        artifacts = {
            "model": str(graph.files.model),
            "index": str(graph.files.index),
            "params": str(workspace.root / PARAMS_FILE),
        }
        if isinstance(section, HfParams):
            artifacts["encoders"] = str(write_carried(section, Path(scratch) / "encoders"))
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(MODEL_FILE),
            artifacts=artifacts,
            code_paths=[str(code)],
            # Named, so that MLflow does not import the model in another process to find them out.
            pip_requirements=requirements(section.kind),
            signature=ModelSignature(inputs=Schema(inputs), outputs=Schema(answered)),
        )
    return str(info.model_uri)


def caption_quality(folder: Path) -> dict[str, float]:
    """Return the few figures of the captions' report that runs are compared by; uncounted ones are left out."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    figures = {name: report[name] for name in ("recall", "hallucination_rate", "contradictions", "leaks")}
    figures["yield"] = report["yield"]["value"]
    return {f"captions/{name}": float(value) for name, value in figures.items() if value is not None}


def log_metrics(client: "MlflowClient", run_id: str, graph: Graph, workspace: Workspace) -> None:
    """Log the training's curves, the evaluation's figures and what all cost; per-query data is in ranks.parquet."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = curves.of_training(graph)
    evaluated = read_metrics(graph)
    final = {} if evaluated is None else final_metrics(evaluated)
    final |= speed(graph) | costs(graph, workspace)
    metrics += [Metric(key, value, now, 0) for key, value in final.items()]
    keys = {metric.key for metric in metrics}
    assert len(keys) < METRIC_KEYS, f"{len(keys)} metric keys in one run"  # noqa: S101
    curves.log(client, run_id, metrics)


def speed(graph: Graph) -> dict[str, float]:
    """How fast training was, on the machine that ran it; nothing where the model came from DVC's cache."""
    journal = curves.journal_of_model(graph)
    if journal is None:
        return {}
    return {f"training/{name}": float(journal.speed[name]) for name in ("samples_per_s", "seconds", "peak_memory_mib")}


def final_metrics(metrics: Metrics) -> dict[str, float]:
    """Every value of the evaluation, and the interval of R@10; MLflow's names have no @ and no +."""
    wanted: dict[str, float] = {}
    for key, value in flatten(metrics.as_json()):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        # Of the limit, and of the way back from music to video, one figure is enough to compare runs by.
        if key.startswith(("oracle.", "counterfactual.oracle.")) and "R@10" not in key:
            continue
        if "music_to_video" in key and "R@10" not in key:
            continue
        if key.endswith(".value"):
            wanted[metric(key.removesuffix(".value"))] = float(value)
        elif not key.endswith((".low", ".high")) or "R@10" in key:
            wanted[metric(key)] = float(value)
    return wanted


def log_dataset(graph: Graph, workspace: Workspace, names: Digests) -> None:
    """Log the manifest, by its digest, as the dataset the run was made from."""
    import mlflow
    import pandas as pd
    import pyarrow.parquet as pq
    from mlflow.data.pandas_dataset import from_pandas

    path = graph.files.manifest
    columns = ["clip_id", "split", "duration_s"]
    rows = pq.ParquetFile(path).read(columns=columns).to_pydict()
    dataset = from_pandas(pd.DataFrame(rows), source=graph.relative(path), name="manifest", digest=names.manifest[:32])
    mlflow.log_input(dataset, context="training")
