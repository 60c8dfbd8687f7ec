"""Results made again: a real repository, a real DVC project of two stages, and runs that recorded its results."""

import contextlib
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from components.settings import read_params
from flows.errors import GATE_FAILED, OK, Refusal
from flows.lineage.clone import clean_clone
from flows.lineage.equality import Difference, changed_packages, first_difference
from flows.lineage.reproduce import reproduce
from flows.registry.tracking import MODEL
from flows.workspace.graph import Graph
from flows.workspace.platform import Platform
from flows.workspace.provenance import environment_text
from flows.workspace.workspace import Workspace

from .conftest import ROOT, Shelf

# The evaluation reads a model and features; its result depends on both and on params.yaml.
GRAPH = """
stages:
  features:
    cmd: python features.py --store data/features
    deps: [features.py]
    outs: [data/features]
  evaluation:
    cmd: python evaluate.py --video data/features --model data/model --metrics data/metrics.json --ranks data/ranks
    deps: [evaluate.py, data/features, data/model]
    params: [evaluation.seed]
    outs: [data/ranks]
    metrics: [data/metrics.json]
  training:
    cmd: cp features.py data/model/weights --model data/model || (mkdir -p data/model && cp features.py data/model/weights)
    deps: [features.py]
    outs: [data/model]
"""
FEATURES = 'from pathlib import Path\nPath("data").mkdir(exist_ok=True)\nPath("data/features").write_text("0.1 0.2")\n'
EVALUATE = """
import json, yaml
from pathlib import Path
numbers = [float(word) for word in Path("data/features").read_text().split()]
seed = yaml.safe_load(Path("params.yaml").read_text())["evaluation"]["seed"]
weights = len(Path("data/model/weights").read_bytes())
Path("data/metrics.json").write_text(json.dumps({"pool": 2, "sum": sum(numbers) * seed / weights}))
Path("data/ranks").write_text(str(weights))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A committed project in which every stage has run."""
    root = tmp_path_factory.mktemp("project")
    files = {
        "dvc.yaml": GRAPH,
        "features.py": FEATURES,
        "evaluate.py": EVALUATE,
        ".gitignore": "/data/\n/.needledrop/\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    shutil.copy(ROOT / "params.yaml", root)
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    from dvc.repo import Repo

    with contextlib.chdir(root), Repo.init(str(root)) as repo:
        repo.reproduce()
    subprocess.run([*git, "add", "-A", ":!dvc.lock"], check=True)
    subprocess.run([*git, "commit", "-qm", "all"], check=True)
    return Workspace(root)


@pytest.fixture(scope="module")
def store(project: Workspace) -> Shelf:
    """The project's registry."""
    return Shelf(project, Graph(project.root, ()))


def record(store: Shelf, folder: Path, metrics: str | None = None, dirty: str = "false", pickle: bool = False) -> str:
    """Register what the project holds, as a retrain would; `metrics` in place of the real ones."""
    root = store.workspace.root
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation/metrics.json").write_text(metrics or (root / "data/metrics.json").read_text())
    digest = hashlib.md5((folder / "evaluation/metrics.json").read_bytes(), usedforsecurity=False).hexdigest()
    outs = {out["path"]: out for stage in lock["stages"].values() for out in stage["outs"]}
    outs["data/metrics.json"]["md5"] = digest
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    shutil.copy(root / "data/ranks", folder / "evaluation/ranks.parquet")
    shutil.copy(root / "params.yaml", folder)
    (folder / "environment.txt").write_text(environment_text())
    model = folder / "logged/artifacts/model"
    shutil.copytree(root / "data/model", model)
    if pickle:
        (model / "extra.pkl").write_bytes(b"\x80\x04N.")
    params = hashlib.sha256(json.dumps(read_params(root / "params.yaml"), sort_keys=True).encode()).hexdigest()
    number = store.put(folder, metrics=digest, params=params, manifest=outs["data/features"]["md5"],
                       model=outs["data/model"]["md5"], index=outs["data/ranks"]["md5"])  # fmt: skip
    run_id = store.client.get_model_version(MODEL, str(number)).run_id
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    store.client.set_tag(run_id, "mlflow.source.git.commit", head.stdout.strip())
    store.client.set_tag(run_id, "needledrop.git_dirty", dirty)
    # The version's files are those of its run here; a retrain logs a model of its own.
    uri = f"{store.client.get_run(run_id).info.artifact_uri}/logged"
    tags = store.client.get_model_version(MODEL, str(number)).tags
    store.client.delete_model_version(MODEL, str(number))
    return str(store.client.create_model_version(MODEL, uri, run_id, tags=tags).version)


def test_a_result_that_was_not_what_is_recorded_is_told_by_its_first_value(
    project: Workspace, store: Shelf, tmp_path: Path
) -> None:
    cache = project.root / ".dvc/cache"
    before = sorted((path, path.stat().st_mtime_ns) for path in cache.rglob("*") if path.is_file())
    real = json.loads((project.root / "data/metrics.json").read_text())
    off = json.dumps(real | {"sum": real["sum"] * (1 + 2**-50)})
    done = reproduce(Platform(project, store.platform.environment), record(store, tmp_path / "other", metrics=off))
    assert done.first == Difference("sum", json.loads(off)["sum"], real["sum"])
    assert (done.equal, done.code, done.ranks_equal) == (False, GATE_FAILED, True)
    assert (done.values, done.inputs, done.packages) == (2, [], [])
    # The workspace and its cache are only read.
    assert before == sorted((path, path.stat().st_mtime_ns) for path in cache.rglob("*") if path.is_file())


def test_features_that_the_cache_has_lost_are_named_and_made_again(
    project: Workspace, store: Shelf, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    number = record(store, tmp_path / "run")
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())
    (digest,) = (out["md5"] for one in lock["stages"].values() for out in one["outs"] if out["path"] == "data/features")
    kept = project.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    kept.rename(tmp_path / "lost")
    try:
        done = reproduce(Platform(project, store.platform.environment), number)
    finally:
        (tmp_path / "lost").rename(kept)
    assert done.equal
    said = f"data/features of version {number} not in the DVC cache, and no DVC remote is set: made again"
    assert said in capfd.readouterr().err


@pytest.mark.stack
def test_all_is_made_again_to_the_bit_and_the_clone_is_kept(project: Workspace, store: Shelf, tmp_path: Path) -> None:
    number = record(store, tmp_path / "run")
    done = reproduce(Platform(project, store.platform.environment), number)
    assert (done.equal, done.code) == (True, OK)
    done = reproduce(Platform(project, store.platform.environment), number, from_scratch=True, keep=True)
    assert done.folder is not None
    try:
        assert done.equal and done.stages == {"features": [], "evaluation": [], "training": []}
        assert (Path(done.folder) / "data/metrics.json").is_file()
    finally:
        shutil.rmtree(Path(done.folder).parent)


@pytest.mark.parametrize(
    ("how", "words"),
    [({"dirty": "true"}, "differed from commit"), ({"pickle": True}, "extra.pkl.*pickled")],
)
def test_what_cannot_be_trusted_is_refused(
    project: Workspace, store: Shelf, tmp_path: Path, how: dict[str, bool | str], words: str
) -> None:
    with pytest.raises(Refusal, match=words):
        reproduce(Platform(project, store.platform.environment), record(store, tmp_path / "run", **how))  # type: ignore[arg-type]


def test_changed_records_are_refused(project: Workspace, store: Shelf, tmp_path: Path) -> None:
    number = record(store, tmp_path / "run")
    run_id = store.client.get_model_version(MODEL, number).run_id
    (tmp_path / "metrics.json").write_text('{"pool": 2, "sum": 9.0}')
    store.client.log_artifact(run_id, str(tmp_path / "metrics.json"), "evaluation")
    with pytest.raises(Refusal, match="is not what the version was registered with"):
        reproduce(Platform(project, store.platform.environment), number)


def test_an_unknown_commit_and_a_missing_repository_are_told(project: Workspace, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="does not have commit deadbeef"):
        clean_clone(str(project.root), "deadbeef" * 5, tmp_path / "a")
    with pytest.raises(Refusal, match="--from"):
        clean_clone(str(tmp_path / "none"), "deadbeef" * 5, tmp_path / "b")
    with pytest.raises(Refusal) as refused:
        clean_clone("https://me:hunter2@localhost:1/x.git", "deadbeef" * 5, tmp_path / "c")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("recorded", "again", "name"),
    [
        ({"a": [1, {"b": 0.1}]}, {"a": [1, {"b": 0.1}]}, None),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, "a"),
        ({"a": 0.0}, {"a": -0.0}, "a"),
        ({"a": 1}, {"a": 1.0}, "a"),
        ({"a": float("nan")}, {"a": float("nan")}, None),
        ({"a": {"b": 1}}, {"a": {}}, "a.b"),
        ({}, {"new": 1}, "new"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a[1]"),
        ({"a": [1]}, {"a": [1, 2]}, "a"),
    ],
)
def test_the_first_difference_is_named(recorded: object, again: object, name: str | None) -> None:
    found = first_difference(recorded, again)
    assert (found.name if found else None) == name


def test_packages_of_another_version_are_listed() -> None:
    assert changed_packages("torch==1\nnumpy==2\n", "torch==2\nnumpy==2\nnew==1\n") == [
        "new absent -> 1",
        "torch 1 -> 2",
    ]
