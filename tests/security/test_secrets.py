"""No secret of the environment is written anywhere: files, databases, logs, what is printed."""

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.environment import read_environment, redact

# Words that stand nowhere else; each comes with the variable that brings it into the process.
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "sesame-aws-secret",
    "AWS_ACCESS_KEY_ID": "sesame-aws-key-id",
    "AWS_SESSION_TOKEN": "sesame-aws-session",
    "MLFLOW_TRACKING_PASSWORD": "sesame-mlflow-password",
    "MLFLOW_TRACKING_TOKEN": "sesame-mlflow-token",
    "PREFECT_API_KEY": "sesame-prefect-key",
    "NEEDLEDROP_WEBHOOK_URL": "http://127.0.0.1:9/services/sesame-webhook",
}
MARK = b"sesame-"
ROOT = Path(__file__).parents[2]
LEDGER = "postgresql://needledrop:sesame-ledger@127.0.0.1:9/ledger"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A process whose environment holds every secret that the platform knows."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    yield SECRETS


def leaks(folder: Path) -> list[str]:
    """Files that hold a secret; a database is a file as well, and its rows are in it as they are."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and MARK in path.read_bytes()]


def test_the_scan_finds_what_is_there(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("create table t (v text)")
        database.execute("insert into t values ('x sesame-y z')")
    assert leaks(tmp_path) == [str(tmp_path / "a.db")]


@pytest.mark.stack  # a whole registration with its reports
def test_registration_gate_monitor_and_deployed_flows_write_no_secret(
    secrets: dict[str, str],
    prefect_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from dvc.repo import Repo

    from flows.cli import main
    from flows.deploy import release as deployed
    from flows.deploy.monitor import monitor as deployed_monitor
    from flows.environment import prepare
    from flows.errors import Refusal
    from flows.workspace.graph import load_graph
    from flows.workspace.workspace import Workspace
    from tests.flows.results import commit_results, write_results

    root = tmp_path / "workspace"
    root.mkdir()
    Repo.init(str(root), no_scm=True).close()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("flows.cli.signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["needledrop", "register"])
    monkeypatch.chdir(root)
    workspace = Workspace(root)
    prepare(workspace.prefect_home)
    graph = load_graph(root)
    write_results(graph, workspace)
    commit_results(graph, workspace)

    assert main(["register"]) == 0
    for words in (
        ["lineage", "1"],
        ["card", "1"],
        ["status", "--json"],
        ["gate", "1"],
        ["approve", "1", "--by", "Ada", "--reason", "x"],
        ["monitor", "--no-retrain"],
    ):
        main(words)
    for decision in (
        lambda: deployed.approve.fn(1, "Ada", "x"),
        lambda: deployed.promote.fn(1, "Ada"),
        deployed_monitor.fn,
    ):
        with contextlib.suppress(Refusal):  # whatever they decide, they write it down
            decision()
    said = capfd.readouterr()
    assert "version 1" in said.out
    assert MARK.decode() not in said.out + said.err
    assert (root / ".needledrop/mlflow.db").is_file()
    assert leaks(root) == []


def test_prefect_keeps_no_secret_of_a_run(secrets: dict[str, str], prefect_server: str, tmp_path: Path) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.logging import get_run_logger

    from flows.environment import Environment

    @flow(name="secrets", persist_result=False)
    def keeps(root: Path) -> str:
        environment: Environment = read_environment()
        get_run_logger().info("%s %r", environment.redacted(), environment)
        return str(environment)

    assert MARK.decode() not in keeps(tmp_path)
    with get_client(sync_client=True) as client:
        run = client.read_flow_runs()[0]

        async def logs() -> list[Any]:
            async with get_client() as inner:
                return list(await inner.read_logs())

        kept = [run.model_dump_json(), *(log.model_dump_json() for log in asyncio.run(logs()))]
    assert MARK.decode() not in "".join(kept)


@pytest.mark.parametrize("words", [["audit", "verify"], ["lineage", "1"]])
def test_an_unreachable_ledger_or_store_is_named_without_its_password(
    clean_environment: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    more = {"NEEDLEDROP_LEDGER_URL": LEDGER, "MLFLOW_TRACKING_URI": "http://u:sesame-uri@127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-m", "flows.cli", *words, "--json"], cwd=tmp_path, capture_output=True,
                          env=clean_environment | more, timeout=120, check=False)  # fmt: skip
    assert done.returncode != 0
    assert MARK not in done.stdout + done.stderr
    assert leaks(tmp_path) == []


@pytest.mark.parametrize(
    "uri",
    [LEDGER, "http://u:sesame-a@host/x", "postgresql+psycopg2://u:sesame%40b@host", "postgresql://host/db?password=sesame-q",
     "postgresql://host/db?user=a&sslpassword=sesame-q", "http://host/x?token=sesame-t"],
)  # fmt: skip
def test_an_address_is_shown_without_its_password(uri: str) -> None:
    assert "sesame" not in redact(uri)


def test_settings_say_only_whether_a_secret_is_set(secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEEDLEDROP_LEDGER_URL", LEDGER)
    environment = read_environment()
    assert MARK.decode() not in str(environment.redacted())
    assert all(value not in repr(environment) for value in secrets.values())
