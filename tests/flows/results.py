"""Writes what a retrain would leave behind: small, random, and in the real formats."""

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from components import tables
from components.encoder.model import TrimodalModel
from components.encoder.serialise import load_model, save_model
from components.evaluation.metrics_file import write_metrics
from components.features.extractor import build_extractor
from components.increments import update_store
from components.indexing.catalogue import write_catalogue
from components.modalities import MODALITIES, TAG_GROUPS
from components.params import read_all
from components.store import FeatureStore
from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace
from tests.evaluation.made_metrics import made_metrics

CLIPS = 12
SPLITS = ("train", "train", "val", "test")


def write_results(graph: Graph, workspace: Workspace) -> None:
    """Write every file that registration reads, and a dvc.lock that knows them."""

    def path(stage: str, argument: str) -> Path:
        found = workspace.root / graph[stage].argument(argument)
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    params = read_all(workspace.root / "params.yaml")
    draw = np.random.default_rng(0)
    ids = [f"clip-{number:02d}" for number in range(CLIPS)]
    manifest = [_clip(clip_id, SPLITS[number % 4]) for number, clip_id in enumerate(ids)]
    tables.write_rows(path("indexing", "manifest"), manifest, tables.MANIFEST)
    told = {"keys": [], "settings": "x", "why": "first seen", "before": None}
    history = [told | {"clip_id": row["clip_id"], "split": row["split"]} for row in manifest]
    tables.write_rows(path("ingest", "splits"), history, tables.SPLITS)
    tags = [{"group": group, "name": f"{group}-1", "probability": 0.9} for group in TAG_GROUPS]
    tables.write_rows(path("indexing", "tags"), [{"clip_id": clip_id, "tags": tags} for clip_id in ids], tables.TAGS)
    tables.write_rows(path("captioning", "captions"), [_caption(clip_id) for clip_id in ids], tables.CAPTIONS)

    dims, specs = {}, {}
    for modality in MODALITIES:
        spec = build_extractor(params.features, modality).spec()
        dims[modality] = spec["dims"]

        def compute(wanted: list[str], spec: dict[str, Any] = spec) -> Any:
            return ((clip_id, draw.normal(size=(min(2, spec["max_segments"]), spec["dims"]))) for clip_id in wanted)

        folder = path("training", modality)
        update_store(folder, spec, [(clip_id, clip_id) for clip_id in ids], compute, 100)
        specs[modality] = FeatureStore.open(folder).digest

    torch.manual_seed(0)
    for folder in (
        path("training", "model"),
        path("indexing", "index"),
        path("evaluation", "plots"),
        path("validate", "docs"),
        path("captioning", "quality"),
    ):
        folder.mkdir(parents=True)
    (path("captioning", "quality") / "report.json").write_text(json.dumps(_QUALITY))
    (path("captioning", "quality") / "audit.html").write_text("<html>")
    save_model(path("training", "model"), TrimodalModel(params.encoder, dims), specs)
    loaded = load_model(path("training", "model"))
    vectors = draw.normal(size=(CLIPS, loaded.model.embedding_dims)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        {key: clip[key] for key in ("clip_id", "track_id", "artist", "title", "uri", "start_s", "end_s", "split")}
        | {"tags": ["genres:genres-1"]}
        for clip in manifest
    ]
    write_catalogue(path("indexing", "index"), rows, vectors, {"model": loaded.digest}, params.indexing)

    curves = [
        {"step": step, "name": name, "value": 1.0 / (1 + step)}
        for step in (0, 25, 50)
        for name in ("train.loss", "val.MRR")
    ]
    pq.write_table(pa.Table.from_pylist(curves), path("training", "history"))
    write_metrics(path("evaluation", "metrics"), made_metrics())
    pq.write_table(pa.table({"clip_id": ids, "rank": list(range(CLIPS))}), path("evaluation", "ranks"))
    (path("evaluation", "plots") / "recall.png").write_bytes(b"picture")
    (path("validate", "docs") / "index.html").write_text("<html>")

    outs = [(stage, out) for stage in ("ingest", "training", "evaluation", "indexing") for out in graph[stage].outputs]
    lock: dict[str, Any] = {"schema": "2.0", "stages": {stage: {"cmd": "x", "outs": []} for stage, _ in outs}}
    for stage, out in outs:
        lock["stages"][stage]["outs"].append({"path": out, "hash": "md5", "md5": "0" * 32, "size": 1})
    (workspace.root / "dvc.lock").write_text(yaml.safe_dump(lock))


def commit_results(graph: Graph, workspace: Workspace) -> None:
    """Have DVC know the results as those of the code and the params of now, as a run does; what lacks is an empty table, or a word."""
    from dvc.repo import Repo

    for path in (workspace.root / out for stage in graph.stages for out in stage.outputs):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".parquet":
                pq.write_table(pa.table({}), path)
            else:
                path.write_text("made")
    with chdir(workspace.root), Repo() as repo:
        repo.commit(force=True)


def _clip(clip_id: str, split: str) -> dict[str, Any]:
    filled = {"string": clip_id, "int64": 1, "double": 10.0}
    return {field.name: filled[str(field.type)] for field in tables.MANIFEST} | {
        "clip_id": clip_id,
        "split": split,
        "start_s": 0.0,
    }


def _caption(clip_id: str) -> dict[str, Any]:
    return {
        "clip_id": clip_id, "text": "calm piano piece", "kind": "tags", "tag_digest": "0", "seed": 0, "attempts": 1, "verdict": "ok",
    }  # fmt: skip


_QUALITY = {
    "yield": {"value": 0.97, "low": 0.9, "high": 0.99, "of": 12}, "recall": 0.9, "hallucination_rate": 0.01,
    "contradictions": 0, "leaks": None,
}  # fmt: skip
