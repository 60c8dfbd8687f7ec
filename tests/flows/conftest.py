"""Toy workspaces (a few trivial stages, real params.yaml), and the command line in and out of process."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from flows.environment import prepare
from flows.workspace.graph import Graph, load_graph
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]

MakeToy = Callable[[str], Workspace]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]

# Two independent branches between a first and a last stage; each stage writes what it says.
DIAMOND = """
stages:
  first:
    desc: the first
    cmd: echo making first && cp in.txt first.txt && echo "first, 1 row"
    deps: [in.txt]
    outs: [first.txt]
  branch:
    foreach: {left: {word: l}, right: {word: r}}
    do:
      cmd: cat first.txt > ${key}.txt && echo ${item.word} >> ${key}.txt
      deps: [first.txt]
      params: [training.steps]
      outs: ["${key}.txt"]
  last:
    cmd: cat left.txt right.txt > last.txt && echo "last, 4 rows"
    deps: [left.txt, right.txt]
    outs: [last.txt]
"""


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Tell whether a process ends in time; one that only waits to be collected has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="session")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that DVC knows as a project, with the real params.yaml."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("project")
    Repo.init(str(folder), no_scm=True).close()
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "in.txt").write_text("input\n")
    return folder


@pytest.fixture
def toy(empty_project: Path, tmp_path: Path) -> MakeToy:
    """Make a workspace around the given dvc.yaml."""

    def make(graph: str) -> Workspace:
        folder = tmp_path / "workspace"
        shutil.copytree(empty_project, folder)
        (folder / "dvc.yaml").write_text(graph)
        return Workspace(folder)

    return make


@pytest.fixture
def cli(clean_environment: dict[str, str]) -> Cli:
    """Run `needledrop` in another process."""

    def run(*words: str, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", *words]
        return subprocess.run(
            command, cwd=cwd, env=clean_environment | more, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.fixture
def here(
    clean_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    """Run `needledrop` in this process, which is quicker; leave its environment as it was."""
    from flows.cli import main

    before = dict(os.environ)
    monkeypatch.setattr("flows.cli.signal.signal", lambda *_: None)

    def run(*words: str, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
        os.environ.clear()
        os.environ.update(clean_environment | more)
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    yield run
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_project: Path) -> tuple[Workspace, Graph]:
    """A workspace as a retrain leaves it, with a dozen clips and random weights; and an empty MLflow store."""
    from .results import write_results  # loads torch

    folder = tmp_path_factory.mktemp("finished") / "workspace"
    shutil.copytree(empty_project, folder)
    shutil.copytree(ROOT / "components", folder / "components", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    workspace = Workspace(folder)
    graph = load_graph(folder)
    write_results(graph, workspace)
    from flows.registry.tracking import connect

    prepare(workspace.prefect_home)
    connect(Platform.at(workspace)).search_experiments()
    return workspace, graph


@pytest.fixture
def workspace(
    finished: tuple[Workspace, Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """A copy of its own; the report, which takes seconds, is left out where a test does not ask for it."""
    shutil.copytree(finished[0].root, tmp_path / "workspace")
    monkeypatch.setattr(
        "flows.drift.evidently.write_evidently",
        lambda path, *_: path.parent.mkdir(exist_ok=True) or path.write_text("<html>"),
    )
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield Workspace(tmp_path / "workspace")


@pytest.fixture
def graph(finished: tuple[Workspace, Graph], workspace: Workspace) -> Graph:
    return replace(finished[1], root=workspace.root)
