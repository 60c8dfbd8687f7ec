"""A version brings what it needs: its encoders, or their names; what it asks pip for; and it stays out of the host's way."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.features.hf import carried
from components.settings import read_params
from flows.environment import prepare
from flows.errors import Refusal
from flows.registration.code import requirements
from flows.registration.register import register
from flows.release.encoders import fetch_encoders
from flows.workspace.graph import Graph, load_graph
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from tests.features import look_alikes

from .conftest import ROOT, Cli
from .results import write_results

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def small(root: Path, features: dict[str, Any]) -> Workspace:
    """A workspace whose features are of pre-trained encoders, and whose model is small."""
    shutil.copy(ROOT / "dvc.yaml", root)
    params = read_params(ROOT / "params.yaml") | {"features": features}
    params["encoder"] |= {"width": 16, "feedforward": 16, "embedding_dims": 8, "heads": 2}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Workspace(root)


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny ones of pictures, sound and sentences."""
    folder = tmp_path_factory.mktemp("encoders")
    look_alikes.clip(folder / "pictures")
    look_alikes.clap(folder / "sound")
    look_alikes.sentence(folder / "sentences")
    return folder


@pytest.fixture
def hub(encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was fetched from the hub: the sentence encoder, as some/sentences."""
    from huggingface_hub import constants

    cache = tmp_path / "hub" / "hub"
    place = cache / "models--some--sentences"
    shutil.copytree(encoders / "sentences", place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(cache.parent))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(carried, "BROUGHT_BYTES", 1000)
    return cache.parent


@pytest.fixture
def made(encoders: Path, hub: Path, empty_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A registered version whose pictures and sound are of folders, and whose sentences are of the hub."""
    root = tmp_path / "workspace"
    shutil.copytree(empty_project, root)
    shutil.copytree(ROOT / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(encoders / "pictures", root / "models/pictures")
    shutil.copytree(encoders / "sound", root / "models/sound")
    monkeypatch.chdir(root)  # its models are named by paths from there
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(
        "flows.drift.evidently.write_evidently",
        lambda path, *_: path.parent.mkdir(exist_ok=True) or path.write_text("<html>"),
    )
    section = look_alikes.section(
        video__model="models/pictures", music__model="models/sound", text__model="some/sentences"
    )
    workspace = small(root, section.model_dump())
    graph: Graph = load_graph(root)
    write_results(graph, workspace)
    prepare(workspace.prefect_home)
    register(graph, Platform.at(workspace))
    shutil.rmtree(root / "models")  # whoever asks has none of it
    return workspace


@pytest.mark.stack
def test_small_encoders_are_brought_and_large_ones_are_fetched_by_a_command(
    made: Workspace, hub: Path, here: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (listed,) = made.mlflow_artifacts.rglob("encoders.json")
    known = json.loads(listed.read_text())
    assert {name: (one["model"], one["commit"]) for name, one in known.items()} == {
        "video": ("pictures", None),
        "music": ("sound", None),
        "text": ("some/sentences", COMMIT),
    }
    assert known["text"]["folder"] is None and (listed.parent / known["video"]["folder"] / "config.json").is_file()
    asked = listed.parents[2] / "requirements.txt"
    assert f"transformers=={version('transformers')}" in asked.read_text().split()

    def recommend() -> "subprocess.CompletedProcess[str]":
        return here("recommend", "--text", "calm piano", "-k", "3", "--json", cwd=made.root, HF_HOME=str(hub))

    first = recommend()
    assert first.returncode == 0, first.stderr
    assert len(json.loads(first.stdout)["ranking"]) == 3

    place = hub / "hub/models--some--sentences"
    away = place.rename(place.with_suffix(".away"))
    lost = recommend()
    assert lost.returncode == 1 and "Traceback" not in lost.stderr
    assert f"version 1 needs the encoder some/sentences at commit {COMMIT}" in lost.stderr
    assert "run `needledrop fetch 1`" in lost.stderr
    with pytest.raises(Refusal, match="version 1: some/sentences: neither a folder nor to be had from the hub"):
        fetch_encoders(Platform.at(made), 1)

    away.rename(place)
    (one,) = fetch_encoders(Platform.at(made), 1)
    assert one["model"] == "some/sentences" and Path(one["folder"]).name == COMMIT
    weights = place / "snapshots" / COMMIT / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(
        Refusal, match=r"version 1: the files of some/sentences at commit .* are not those that made its feat"
    ):
        fetch_encoders(Platform.at(made), 1)
    refused = recommend()
    assert refused.returncode == 1 and "text extractor is not the one its model was trained on" in refused.stderr


def test_pip_is_asked_for_what_the_code_imports_and_no_more() -> None:
    lines = {kind: dict(line.split("==") for line in requirements(kind)) for kind in ("embedded", "hf")}
    assert {"transformers", "huggingface_hub"} <= lines["hf"].keys()
    assert not {"transformers", "huggingface_hub", "prefect", "dvc", "boto3"} & lines["embedded"].keys()
    for name, number in (lines["embedded"] | lines["hf"]).items():
        assert number == version(name).partition("+")[0]
    # Every package that a module which is loaded for an answer names at its top.
    script = (
        "import sys, flows.registration.pyfunc_model; print(*(n for n in sys.modules if n.startswith('components')))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    named = set()
    for module in loaded.stdout.split():
        path = ROOT.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        named |= set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.M))
    others = named - sys.stdlib_module_names - {"components"}
    packages = {"faiss": "faiss-cpu", "yaml": "PyYAML"}
    assert others and {packages.get(name, name) for name in others} <= lines["embedded"].keys()
