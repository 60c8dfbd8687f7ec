"""A workspace whose test clips can be ranked, and model versions with real weights in a real store and ledger."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components import tables
from components.encoder.model import TrimodalModel
from components.encoder.serialise import load_model, save_model
from components.features.extractor import build_extractor
from components.increments import update_store
from components.indexing.catalogue import write_catalogue
from components.modalities import MODALITIES, MUSIC, TEXT, Modality
from components.params import read_all
from components.store import FeatureStore
from flows.environment import prepare
from flows.ledger.database import transaction
from flows.registration.code import MODEL_FILE
from flows.registration.entry import enter
from flows.registry.tracking import EXPERIMENT, MODEL, connect
from flows.release import releases
from flows.release.actions import approve, promote
from flows.release.evidence import FOLDER, REPORT
from flows.release.mirror import mirror
from flows.release.table import Release
from flows.workspace.graph import Graph, Stage
from flows.workspace.inputs import Inputs
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

from .gate_tables import GATE_FILE

ROOT = Path(__file__).parents[2]
CLIPS, TEST = 64, 40
FILES = {
    "manifest": "manifest.parquet", "tags": "tags.parquet", "annotations": "features/annotations",
    "annotated": "annotations.parquet", "captions": "captions.parquet",
    **{modality: f"features/{modality}" for modality in MODALITIES},
}  # fmt: skip


MLMODEL = """
flavors:
  python_function:
    artifacts:
      model: {path: artifacts/model, uri: elsewhere}
      index: {path: artifacts/index, uri: elsewhere}
      params: {path: artifacts/params.yaml, uri: elsewhere}
    code: code
    loader_module: mlflow.pyfunc.loaders.code_model
    model_code_path: pyfunc_model.py
    python_version: 3.11.0
"""


@dataclass
class Works:
    """A workspace, its graph, and ways to bring versions into it."""

    workspace: Workspace
    graph: Graph
    specs: dict[Modality, str]

    @property
    def platform(self) -> Platform:
        return Platform.at(self.workspace)

    @property
    def client(self) -> Any:
        return connect(self.platform)

    def folder(self, version: int) -> Path:
        """Where the files of a version lie."""
        return self.workspace.root / f"store/{version}"

    def register(
        self, seed: int, specs: dict[Modality, str] | None = None, code: Callable[[Path], None] | None = None
    ) -> Release:
        """Register a model of random weights, with its index.

        Args:
            seed: of the weights.
            specs: of the extractors that it was trained with; those of the workspace by default.
            code: writes the code that it brings into its folder; today's by default.
        """
        client, params = self.client, read_all(self.workspace.root / "params.yaml")
        number = len(client.search_model_versions(f"name = '{MODEL}'")) + 1
        model, index = self.folder(number) / "artifacts/model", self.folder(number) / "artifacts/index"
        for folder in (model, index):
            folder.mkdir(parents=True)
        dims = {m: build_extractor(params.features, m).spec()["dims"] for m in MODALITIES}
        torch.manual_seed(seed)
        made = TrimodalModel(params.encoder, dims)
        save_model(model, made, specs or self.specs)
        vectors = np.eye(TEST, made.embedding_dims, dtype=np.float32)
        kept = ("clip_id", "track_id", "artist", "title", "uri", "start_s", "end_s", "split")
        rows = [{key: row[key] for key in kept} | {"tags": []} for row in manifest()[:TEST]]
        write_catalogue(index, rows, vectors, {"model": load_model(model).digest}, params.indexing)
        (code or todays_code)(self.folder(number))
        return self.enter(number)

    def enter(self, number: int) -> Release:
        """Bring the files of a folder into MLflow and into the ledger, as that version."""
        client = self.client
        run = client.create_run(client.get_experiment_by_name(EXPERIMENT).experiment_id)
        client.set_terminated(run.info.run_id)
        names = {"digest": f"content {number}", "run": run.info.run_id, "manifest": "m", "params": "p", "code": "c"}
        tags = {f"needledrop.{name}": value for name, value in names.items()}
        found = client.create_model_version(MODEL, self.folder(number).as_uri(), run.info.run_id, tags=tags)
        release = enter(client, self.platform, found)
        mirror(self.platform)
        return release

    def release(self, version: int) -> Release:
        with transaction(self.platform) as connection:
            return releases.read(connection, version)

    def hail(self, version: int) -> None:
        """Make a version that was not gated the champion, on a report that says it passed."""
        text = json.dumps({"verdict": "passed"})
        evidence = hashlib.sha256(text.encode()).hexdigest()
        self.client.log_text(self.release(version).run_id, text, f"{FOLDER}/{evidence[:12]}/{REPORT}")
        with transaction(self.platform) as connection:
            releases.move(connection, version, "registered", "evaluated", "gate", "for the test")
            releases.move(connection, version, "evaluated", "passed", "gate", "for the test", evidence)
        self.crown(version)

    def crown(self, version: int) -> None:
        """Make a version that has passed, or may be let pass, the champion."""
        approve(self.platform, version, "Ada", "for the test", override=True)
        promote(self.platform, version, "Ada")


def todays_code(folder: Path) -> None:
    """What a version brings: our code, and what MLflow loads it by. Data files of other stages are left out."""
    apart = shutil.ignore_patterns("__pycache__", "captioning", "corpus", "training", "research")
    shutil.copytree(ROOT / "components", folder / "code/components", ignore=apart)
    shutil.copy(MODEL_FILE, folder)
    shutil.copy(ROOT / "params.yaml", folder / "artifacts")
    (folder / "MLmodel").write_text(MLMODEL)


def manifest() -> list[dict[str, Any]]:
    """Clips of which most are test clips; two of an artist."""
    filled = {"string": "x", "int64": 1, "double": 10.0}
    rows = []
    for at in range(CLIPS):
        row = {field.name: filled[str(field.type)] for field in tables.MANIFEST}
        split = "test" if at < TEST else ("train" if at < CLIPS - 8 else "val")
        ids = {
            "clip_id": f"clip-{at:02d}",
            "video_id": f"v{at}",
            "track_id": f"t{at}",
            "artist_id": f"{split} {at // 2}",
            "sha256": f"file {at}",
        }
        rows.append(row | ids | {"split": split, "start_s": 0.0, "uri": f"media/{at}.mp4", "title": f"Title {at}"})
    return rows


@pytest.fixture(scope="session")
def works(tmp_path_factory: pytest.TempPathFactory) -> Works:
    """No version yet."""
    root = tmp_path_factory.mktemp("gate")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    text = GATE_FILE.read_text().replace("times_chance: 3.0", "times_chance: 1.01").replace("10_000", "400")
    (root / "gate.yaml").write_text(text.replace("above_cca: true", "above_cca: false"))
    paths = {name: f"data/{path}" for name, path in FILES.items()}
    names = ("ingest", "captioning", "training", "evaluation")
    graph = Graph(root, tuple(Stage(name, "", paths, (), (), (), Inputs([], {}, {})) for name in names))
    rows, specs, draw = manifest(), {}, np.random.default_rng(0)
    ids = [row["clip_id"] for row in rows]
    data = root / "data"
    tables.write_rows(data / FILES["manifest"], rows, tables.MANIFEST)
    tags = [{"group": "genres", "name": "jazz" if at % 2 else "folk", "probability": 0.9} for at in range(CLIPS)]
    tables.write_rows(
        data / FILES["tags"], [{"clip_id": c, "tags": [t]} for c, t in zip(ids, tags, strict=True)], tables.TAGS
    )
    told = [{"clip_id": clip, "text": f"words of {clip}", "line": at} for at, clip in enumerate(ids)]
    tables.write_rows(data / FILES["annotated"], told, tables.ANNOTATIONS)
    params = read_all(root / "params.yaml")
    for name in (*MODALITIES, "annotations"):
        modality: Modality = TEXT if name == "annotations" else name  # type: ignore[assignment]
        spec = build_extractor(params.features, modality).spec()

        def compute(wanted: list[str], spec: dict[str, Any] = spec) -> Any:
            return ((clip, draw.normal(size=(min(2, spec["max_segments"]), spec["dims"]))) for clip in wanted)

        update_store(data / FILES[name], spec, [(clip, clip) for clip in ids], compute, 100)
        specs[modality] = FeatureStore.open(data / FILES[name]).digest
    assert set(specs) == set(MODALITIES) and MUSIC in specs
    made = Works(Workspace(root), graph, specs)
    prepare(made.workspace.prefect_home)
    return made


def _copied(works: Works, root: Path) -> Iterator[Works]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "NEEDLEDROP_LEDGER_URL"):
            patch.delenv(name, raising=False)
        shutil.copytree(works.workspace.root, root)
        made = Works(Workspace(root), works.graph, works.specs)
        made.client.create_registered_model(MODEL)
        made.client.create_experiment(EXPERIMENT, made.workspace.mlflow_artifacts.as_uri())
        yield made


@pytest.fixture(scope="module")
def clean(works: Works, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """The workspace with stores of its own, which cost seconds: the tests of a file share them, in order."""
    yield from _copied(works, tmp_path_factory.mktemp("gated") / "workspace")
