"""A workspace with results, and a registry that knows three versions of them: kept clips, fewer clips, none."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components import tables
from components.evaluation.metrics_file import write_metrics
from flows.environment import prepare
from flows.gate.report import FORMAT, Check, Data, Examples, GateReport, Provenance, SideReport, Words
from flows.gate.settings import SHIPPED, read_settings
from flows.ledger.database import transaction
from flows.lineage.written import write_lineage
from flows.registry.tracking import EXPERIMENT, MODEL, connect
from flows.release.clips import CLIPS, FOLDER, SCHEMA
from flows.release.releases import add, move
from flows.release.table import Release
from flows.workspace.graph import Graph, load_graph
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from tests.evaluation.made_metrics import made_metrics

ROOT = Path(__file__).parents[2]
COMMIT = "c0ffee" + "0" * 34
SETTINGS = read_settings(SHIPPED.parent)
REPORT = GateReport(
    format=FORMAT,
    kind="floors",
    verdict="passed",
    words=Words(headline="Version 1 clears the floors", found="R@10 0.700.", next="Approve it."),
    challenger=SideReport(name="version 1", recall={}, median_rank={}, coverage={}, facts={}),
    other=None,
    checks=(
        Check(key="chance", asks="beats | chance", found="14 times", limit="3 times", outcome="passed", figures={}),
    ),
    modes={},
    slices=(),
    detectable=None,
    examples=Examples(wins=(), losses=()),
    data=Data(test_digest="0" * 64, queries=200, clusters=100, pool=200, chance=0.05, text_source="annotation"),
    settings=SETTINGS,
    settings_digest=SETTINGS.digest(),
    provenance=Provenance(made="2026-01-01T00:00:00+00:00", seed=7, resamples=1000),
).model_dump_json(by_alias=True)


@dataclass
class Shelf:
    """A workspace with its graph, its registry and its ledger."""

    workspace: Workspace
    graph: Graph

    @property
    def platform(self) -> Platform:
        return Platform.at(self.workspace)

    @property
    def client(self) -> Any:
        return connect(self.platform)

    def put(self, artifacts: Path | None, **tags: str) -> int:
        """Add a version whose run holds the files of a folder; return its number."""
        client = self.client
        experiment = client.get_experiment_by_name(EXPERIMENT)
        where = self.workspace.mlflow_artifacts.as_uri()
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, where)
        run = client.create_run(
            experiment_id, tags={"mlflow.source.git.commit": COMMIT, "needledrop.git_dirty": "false"}
        )
        if artifacts is not None:
            client.log_artifacts(run.info.run_id, str(artifacts))
        client.set_terminated(run.info.run_id)
        if not client.search_registered_models(f"name = '{MODEL}'"):
            client.create_registered_model(MODEL)
        names = dict.fromkeys(("digest", "manifest", "params", "code", "model", "index", "metrics"), "0" * 32) | tags
        named = {f"needledrop.{name}": value for name, value in (names | {"run": run.info.run_id}).items()}
        return int(client.create_model_version(MODEL, where, run.info.run_id, tags=named).version)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Version 1 is champion and keeps its clips, version 2 keeps others, version 3 keeps none."""
    from dvc.repo import Repo

    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "NEEDLEDROP_LEDGER_URL"):
            patch.delenv(name, raising=False)
        root = tmp_path_factory.mktemp("shelf")
        Repo.init(str(root), no_scm=True).close()
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(ROOT / name, root)
        (root / "components").symlink_to(ROOT / "components")
        workspace = Workspace(root)
        prepare(workspace.prefect_home)
        graph = load_graph(root)
        _write_files(graph, root)
        made = Shelf(workspace, graph)

        kept = tmp_path_factory.mktemp("kept")
        (kept / FOLDER).mkdir()
        write_lineage(graph, workspace, kept / FOLDER)
        (kept / "evaluation").mkdir()
        shutil.copy(root / graph["evaluation"].argument("metrics"), kept / "evaluation/metrics.json")
        shutil.copy(root / "params.yaml", kept)
        (kept / "gate/one").mkdir(parents=True)
        (kept / "gate/one/report.json").write_text(REPORT)
        first = made.put(kept, digest="1" * 64, manifest="a" * 32)

        rows = tables.read_rows(kept / FOLDER / CLIPS, SCHEMA)
        fewer = [row | {"split": "test", "trained": False} for row in rows if row["clip_id"] != "clip-01"]
        tables.write_rows(kept / FOLDER / CLIPS, fewer, SCHEMA, sort_by=("split", "clip_id"))
        made.put(kept, digest="2" * 64)
        made.put(None, digest="3" * 64)

        made.client.set_registered_model_alias(MODEL, "champion", str(first))
        _release(made, first)
        yield made


def _write_files(graph: Graph, root: Path) -> None:
    """Twelve clips; 01 and 02 stood in the prompt of 00's caption, 01 has a copy in quarantine, 11 has no features."""

    def path(stage: str, argument: str) -> Path:
        found = root / graph[stage].argument(argument)
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    ids = [f"clip-{number:02d}" for number in range(12)]
    splits = ("train", "train", "val", "test")
    filled = {"string": "", "int64": 1, "double": 10.0}
    blank = {item.name: filled[str(item.type)] for item in tables.MANIFEST}
    clips = [
        blank | {"clip_id": name, "split": splits[number % 4], "uri": f"media/{name}.mp4", "sha256": f"sha-{name}",
                 "track_id": f"track-{name[5:]}", "video_id": f"video-{name[5:]}", "licence": "CC0-1.0"}
        for number, name in enumerate(ids)
    ]  # fmt: skip
    tables.write_rows(path("indexing", "manifest"), clips, tables.MANIFEST)
    caption = {"text": "calm piano", "kind": "bloom", "tag_digest": "0", "seed": 0, "attempts": 1, "verdict": "ok"}
    captions = [{"clip_id": name, "exemplar_ids": ["clip-01", "clip-02"] if name == "clip-00" else []} for name in ids]
    tables.write_rows(path("captioning", "captions"), [row | caption for row in captions], tables.CAPTIONS)
    copy = {"uri": "copy.mp4", "stage": "ingest", "reason": "duplicate", "detail": "same bytes as media/clip-01.mp4"}
    tables.write_rows(path("ingest", "quarantine"), [copy], tables.QUARANTINE)
    seed = {"clip_id": "seed-1", "uri": "seed/1.wav", "sha256": "s", "start_s": 0.0, "end_s": 1.0, "tags": []}
    tables.write_rows(path("ingest", "seed"), [seed], tables.SEED)
    tables.write_rows(path("ingest", "annotated"), [{"clip_id": "clip-01", "text": "t", "line": 1}], tables.ANNOTATIONS)
    for folder in (path("training", "video"), path("training", "music"), path("training", "text")):
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"clip_id": ids[:11]}), folder / "index.parquet")
    path("indexing", "index").mkdir()
    pq.write_table(pa.table({"clip_id": ids[:11]}), path("indexing", "index") / "catalogue.parquet")
    pq.write_table(pa.table({"clip_id": ids[:3], "top_clip_id": ids[1:4]}), path("evaluation", "ranks"))
    (path("captioning", "quality")).mkdir()
    (path("captioning", "quality") / "audit.html").write_text("<p>clip-01</p>")
    write_metrics(path("evaluation", "metrics"), made_metrics())


def _release(made: Shelf, version: int) -> None:
    run_id = made.client.get_model_version(MODEL, str(version)).run_id
    names = dict.fromkeys(("model", "index", "catalogue", "manifest", "params", "code"), "x")
    with transaction(made.platform) as connection:
        release = Release(version, "1" * 64, "registered", run_id=run_id, specs={}, commit=COMMIT, evidence=None,
                          approved_by=None, approved_at=None, created="2026-01-01T00:00:00+00:00", **names)  # fmt: skip
        add(connection, release, "tests")
        move(connection, version, "registered", "evaluated", "gate", "begun")
        evidence = hashlib.sha256(REPORT.encode()).hexdigest()
        move(connection, version, "evaluated", "passed", "gate", "better", evidence=evidence)
        move(connection, version, "passed", "approved", "Ada", "heard it")
        move(connection, version, "approved", "champion", "Ada", "heard it")
