"""Model versions of a few small files in a real MLflow store and a real ledger."""

import hashlib
import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import connect as connect_sqlite
from typing import Any

import pytest

from flows.environment import prepare
from flows.ledger.database import _engine, transaction
from flows.registration.entry import enter
from flows.registry.tracking import EXPERIMENT, MODEL, connect
from flows.release.actions import approve, promote
from flows.release.evidence import FOLDER
from flows.release.mirror import mirror, standing
from flows.release.releases import champion, move
from flows.release.states import VERDICTS, State
from flows.release.table import Release
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

SPEAKING = Path(__file__).with_name("speaking")
"""The code of a version that does what it is told."""

MLMODEL = """
flavors:
  python_function:
    artifacts: {model: {path: artifacts/model, uri: elsewhere}}
    code: code
    loader_module: mlflow.pyfunc.loaders.code_model
    model_code_path: pyfunc_model.py
    python_version: 3.11.0
"""


@dataclass
class Shop:
    """A workspace with MLflow and a ledger, and ways to bring versions into it."""

    workspace: Workspace

    @property
    def platform(self) -> Platform:
        return Platform.at(self.workspace)

    @property
    def client(self) -> Any:
        return connect(self.platform)

    def folder(self, version: int) -> Path:
        """Where the files of a version lie."""
        return self.workspace.root / f"store/{version}"

    def register(self, index_of: int | None = None) -> Release:
        """Register another version; `index_of` gives it the index of that version, made with another model."""
        client = self.client
        number = len(client.search_model_versions(f"name = '{MODEL}'")) + 1
        write_files(self.folder(number), number)
        if index_of:
            swap_index(self.folder(index_of), self.folder(number))
        return self.enter(number, self.folder(number).as_uri())

    def enter(self, number: int, uri: str) -> Release:
        """Bring the files at `uri` into MLflow, as version `number`, and into the ledger."""
        client = self.client
        experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
        run = client.create_run(experiment, tags={"mlflow.source.git.commit": "c0ffee"})
        client.set_terminated(run.info.run_id)
        names = {"digest": f"content {number}", "run": run.info.run_id, "manifest": "m", "params": "p", "code": "c"}
        tags = {f"needledrop.{name}": value for name, value in names.items()}
        found = client.create_model_version(MODEL, uri, run.info.run_id, tags=tags)
        release = enter(client, self.platform, found)
        mirror(self.platform)
        return release

    def gate(self, version: int, verdict: State = "passed") -> str:
        """Do what a gate does: log a report, write the verdict; return the report's digest."""
        assert verdict in VERDICTS
        with transaction(self.platform) as connection:
            expected: set[State] = {
                "registered",
                "evaluated",
                "passed",
                "failed",
                "inconclusive",
                "approved",
                "rolled_back",
            }
            release = move(connection, version, expected, "evaluated", "gate", "gate began")
            against = champion(connection)
        text = json.dumps({"verdict": verdict, "against": against.version if against else None})
        evidence = hashlib.sha256(text.encode()).hexdigest()
        for name in ("report.json", "report.html"):
            self.client.log_text(release.run_id, text, f"{FOLDER}/{evidence[:12]}/{name}")
        with transaction(self.platform) as connection:
            move(connection, version, "evaluated", verdict, "gate", f"gate {verdict}", evidence)
        return evidence

    def crown(self, version: int) -> Release:
        """Gate, approve, promote."""
        self.gate(version)
        approve(self.platform, version, "Ada", "listened to it")
        return promote(self.platform, version, "Bob")

    def states(self) -> dict[int, State]:
        return {release.version: release.state for release in self.releases()}

    def releases(self) -> tuple[Release, ...]:
        return standing(self.platform).releases

    def shown(self) -> dict[str, int]:
        """MLflow's aliases."""
        return {name: int(number) for name, number in self.client.get_registered_model(MODEL).aliases.items()}

    def held(self) -> dict[str, int]:
        """The ledger's."""
        return standing(self.platform).aliases


def write_files(folder: Path, number: int) -> None:
    """What a logged model has, as far as a release looks at it."""
    model, index = folder / "artifacts/model", folder / "artifacts/index"
    model.mkdir(parents=True)
    index.mkdir()
    shutil.copytree(SPEAKING, folder / "code/components")
    shutil.move(folder / "code/components/pyfunc_model.py", folder)
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "code/search.py").write_text("K = 10\n")
    weights = f"weights {number}".encode()
    (model / "model.safetensors").write_bytes(weights)
    features = {modality: {"dims": 2, "features": f"{modality} spec"} for modality in ("video", "text", "music")}
    config = {"weights_sha256": hashlib.sha256(weights).hexdigest(), "modalities": features}
    (model / "config.json").write_text(json.dumps(config))
    digest = hashlib.sha256((model / "config.json").read_bytes()).hexdigest()
    (index / "meta.json").write_text(json.dumps({"model": digest}))
    for name in ("catalogue.parquet", "embeddings.npy", "index.faiss"):
        (index / name).write_text(f"{name} {number}")


def swap_index(source: Path, target: Path) -> None:
    shutil.rmtree(target / "artifacts/index")
    shutil.copytree(source / "artifacts/index", target / "artifacts/index")


class Snapshots:
    """States of one workspace to begin a test from: stores of their own for each test would cost seconds."""

    def __init__(self, shop: Shop, kept: Path) -> None:
        self.shop, self.kept = shop, kept

    def save(self, name: str) -> None:
        shutil.copytree(self.shop.workspace.root, self.kept / name)

    def restore(self, name: str) -> Shop:
        root, database = self.shop.workspace.root, self.shop.workspace.mlflow_database
        for folder in ("store", ".needledrop/mlartifacts", ".needledrop/verified"):
            shutil.rmtree(root / folder, ignore_errors=True)
        _engine.cache_clear()  # its connections are to the file that goes now
        self.shop.workspace.ledger.unlink(missing_ok=True)
        apart = shutil.ignore_patterns(database.name)
        shutil.copytree(self.kept / name, root, dirs_exist_ok=True, ignore=apart)
        # MLflow keeps connections to its file: it stays the file, with other content.
        kept = self.kept / name / database.relative_to(root)
        with closing(connect_sqlite(kept)) as source, closing(connect_sqlite(database)) as target:
            source.backup(target)
        return self.shop


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    """`empty`: no version yet. `two`: version 1 is champion, version 2 approved."""
    workspace = Workspace(tmp_path_factory.mktemp("shop"))
    (workspace.root / "dvc.yaml").write_text("stages: {}\n")
    shop = Shop(workspace)
    prepare(workspace.prefect_home)
    shop.client.create_registered_model(MODEL)
    shop.client.create_experiment(EXPERIMENT, workspace.mlflow_artifacts.as_uri())
    made = Snapshots(shop, tmp_path_factory.mktemp("snapshots"))
    made.save("empty")
    shop.register()
    shop.crown(1)
    shop.register()
    shop.gate(2)
    approve(shop.platform, 2, "Ada", "better")
    made.save("two")
    return made


@pytest.fixture
def own_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "NEEDLEDROP_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shop(snapshots: Snapshots, own_stores: None) -> Shop:
    return snapshots.restore("empty")


@pytest.fixture
def two(snapshots: Snapshots, own_stores: None) -> Shop:
    return snapshots.restore("two")
