"""What can be wrong around the deployed line: each gives one clear line with the next step, and changes nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from infra.stack import up
from infra.state import State
from tests.stack.commands import kill, needledrop, part, start, until
from tests.stack.conftest import SWIFT
from tests.stack.deployed_line import Line
from tests.stack.shared_project import make_project

pytestmark = pytest.mark.stack

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A workspace with results that can be registered."""
    from dvc.repo import Repo

    from flows.workspace.graph import load_graph
    from flows.workspace.workspace import Workspace
    from tests.flows.conftest import ROOT
    from tests.flows.results import commit_results, write_results

    root = tmp_path / "workspace"
    root.mkdir()
    Repo.init(str(root), no_scm=True).close()
    shutil.copytree(ROOT / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", "prefect.yaml"):
        shutil.copy(ROOT / name, root)
    graph = load_graph(root)
    write_results(graph, Workspace(root))
    commit_results(graph, Workspace(root))
    return root


@pytest.fixture
def full_disk(stack: State) -> Iterator[None]:
    """The disk of the S3 service is full: Swift keeps a reserve, and here all of the disk is that."""
    settings = stack.folder / "swift" / "etc" / "object.conf"
    kept = settings.read_text().replace(
        "disable_fallocate = true", "disable_fallocate = false\nfallocate_reserve = 100%"
    )
    assert kept != settings.read_text()
    settings.write_text(kept)
    for name in ("s3-object",):
        kill(part(stack, name))
        part(stack, name).start()
    yield
    kill(part(stack, "s3-object"))
    up(stack.folder, worker=False, swift_venv=SWIFT)


def standing(stack: State) -> tuple[list[Any], list[Any]]:
    """What the ledger and MLflow hold."""
    with create_engine(stack.database("ledger", "postgresql+psycopg2")).connect() as ledger:
        there = ledger.execute(text("select to_regclass('releases')")).scalar_one()
        releases = list(ledger.execute(text("select version, state from releases order by 1"))) if there else []
    with create_engine(stack.database("mlflow", "postgresql+psycopg2")).connect() as mlflow:
        versions = list(mlflow.execute(text("select version, name from model_versions order by 1")))
    return releases, versions


def refused(words: list[str], root: Path, environment: dict[str, str], code: int = 1) -> str:
    """Run a command that must fail in one line; return the line."""
    process = start(needledrop(*words), root, environment)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return next(line for line in said.splitlines() if line.startswith("error: "))


@pytest.mark.parametrize(
    ("words", "more", "line"),
    [
        (["deploy"], {"PREFECT_API_URL": f"{NOBODY}/api"}, "does not answer (connection refused); start it, or correct PREFECT_API_URL"),
        (["deploy"], {"PREFECT_API_AUTH_STRING": "needledrop:sesame"}, "refuses us: wrong PREFECT_API_AUTH_STRING"),
        (["worker"], {"PREFECT_API_URL": f"{NOBODY}/api"}, "does not answer (connection refused); start it, or correct PREFECT_API_URL"),
        (["register"], {"MLFLOW_TRACKING_URI": NOBODY}, "does not answer (connection refused); the results stay: run `needledrop register` later"),
        (["register"], {"MLFLOW_TRACKING_PASSWORD": "sesame"}, "see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (["register"], {"AWS_SECRET_ACCESS_KEY": "sesame"}, "see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (["rollback", "--by", "somebody"], {}, "knows you as needledrop, so you cannot sign as somebody; sign as needledrop"),
        (["audit", "verify"], {"NEEDLEDROP_LEDGER_URL": "postgresql+psycopg2://l:sesame@127.0.0.1:9/ledger"}, "does not answer"),
    ],
)  # fmt: skip
def test_a_server_that_is_not_there_or_refuses(
    words: list[str], more: dict[str, str], line: str, toy: Path, stack: State, stack_environment: dict[str, str]
) -> None:
    before = standing(stack)
    said = refused(words, toy, stack_environment | more)
    assert line in said
    assert "sesame" not in said
    assert standing(stack) == before


def test_the_artifact_store_is_full(
    full_disk: None, toy: Path, tmp_path: Path, stack: State, stack_environment: dict[str, str]
) -> None:
    before = standing(stack)
    hasty = stack_environment | {"AWS_MAX_ATTEMPTS": "2"}
    said = refused(["register"], toy, hasty)
    assert "look whether its disk is full" in said and "run `needledrop register` later" in said
    assert standing(stack) == before
    project = make_project(tmp_path / "project", seed=5)
    said = refused(["push"], project, hasty | {"NEEDLEDROP_DVC_REMOTE": f"s3://needledrop-dvc/{tmp_path.name}"})
    assert "look whether its disk is full, then run it again" in said


def test_a_schedule_that_starts_nothing_says_why(deployed: Line) -> None:
    from prefect.client.orchestration import get_client

    # A worker of an earlier test that was ended counts as there until it has been silent for a while.
    until(lambda: "note: no worker polls needledrop-cpu" in deployed.command("deploy", "--jitter", "0"), 240)
    assert "start `needledrop worker --pool needledrop-cpu`" in deployed.command("deploy", "--jitter", "0")
    with get_client(sync_client=True) as client:
        monitor = client.read_deployment_by_name("needledrop-monitor/monitor")
        client.pause_deployment(monitor.id)
        said = deployed.command("status")
        client.resume_deployment(monitor.id)
    assert "monitor is paused, so no schedule starts it; resume it on Prefect's page" in said
