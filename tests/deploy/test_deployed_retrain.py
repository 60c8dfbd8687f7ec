"""The flow that the deployment runs, on a toy graph: once, then not again, then because somebody insists."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from flows.ledger.attempts import ATTEMPTS
from flows.ledger.database import transaction
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]
GRAPH = """
stages:
  count: {cmd: "echo one >> ../count.txt; cp in.txt out.txt", deps: [in.txt], params: [training.steps], outs: [out.txt]}
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    from dvc.repo import Repo

    folder = tmp_path / "workspace"
    (folder / "components" / "corpus").mkdir(parents=True)
    Repo.init(str(folder), no_scm=True).close()
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copy(ROOT / "components" / "corpus" / "world.yaml", folder / "components" / "corpus")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "in.txt").write_text("input\n")
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("NEEDLEDROP_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    yield Workspace(folder)
    os.environ.clear()
    os.environ.update(before)


def test_it_runs_then_skips_then_is_forced_and_then_finds_a_change(workspace: Workspace, prefect_server: str) -> None:
    from flows.deploy.retrain import retrain

    def run(**parameters: object) -> tuple[str, int]:
        """The name of the final state, and how often the stage has run."""
        state = retrain(return_state=True, **parameters)
        return str(state.name), (workspace.root.parent / "count.txt").read_text().count("one")

    assert run() == ("Completed", 1)
    assert run() == ("Skipped", 1)
    assert run(force=True) == ("Completed", 1), "DVC has nothing to do"
    steps = {"training.steps": 251}
    assert run(overrides=steps) == ("Completed", 2)
    assert run(overrides=steps) == ("Skipped", 2)
    assert run(overrides={"training.stepps": 1}) == ("Failed", 2)
    with transaction(Platform.at(workspace)) as connection:
        states = connection.execute(select(ATTEMPTS.c.state).order_by(ATTEMPTS.c.began)).scalars().all()
    assert states == ["finished", "skipped", "finished", "finished", "skipped", "failed"]
