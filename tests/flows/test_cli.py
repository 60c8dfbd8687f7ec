"""The command line: quick help, one-line errors, stable exit codes, JSON alone on standard output."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.ledger.database import transaction
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

from .conftest import DIAMOND, ROOT, Cli

MakeToy = Callable[[str], Workspace]

HEAVY = {"torch", "mlflow", "prefect", "dvc", "pandas", "numpy", "pydantic", "evidently", "av", "rich", "sklearn"}


def test_help_imports_nothing_heavy(clean_environment: dict[str, str]) -> None:
    code = "import sys\nfrom flows.cli import main\nmain(['--help']), print('\\nMODULES', *sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment, capture_output=True, text=True, check=True
    ).stdout
    modules = {name.partition(".")[0] for name in out.partition("MODULES ")[2].split()}
    assert "flows" in modules and not modules & HEAVY
    for command in ("doctor", "plan", "retrain", "register", "status", "recommend", "scan", "blame"):
        assert command in out


@pytest.mark.parametrize("words", [("nonsense",), (), ("retrain", "--nonsense"), ("recommend", "x.mp4", "-k", "0")])
def test_wrong_usage_is_2(here: Cli, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert here(*words, cwd=tmp_path).returncode == 2


def test_outside_a_project_is_2(here: Cli, tmp_path: Path) -> None:
    done = here("plan", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no dvc.yaml") and done.stderr.count("\n") == 1


def test_a_path_that_the_databases_cannot_have_is_2(toy: MakeToy, here: Cli) -> None:
    root = toy(DIAMOND).root
    odd = root.rename(root.with_name("why not?"))
    done = here("status", cwd=odd)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "rename the folder" in done.stderr
    assert sorted(path.name for path in root.parent.iterdir()) == ["why not?"], "nothing was written beside it"


def test_other_odd_paths_are_worked_in(toy: MakeToy, here: Cli) -> None:
    root = toy(DIAMOND).root
    odd = Workspace(root.rename(root.with_name("two words #%41 é'&;")))
    with transaction(Platform.at(odd)):
        assert odd.ledger.is_file()
    assert [path.name for path in odd.root.parent.iterdir()] == [odd.root.name]
    assert here("plan", cwd=odd.root).returncode == 0


OTHERS = {
    "MLFLOW_RUN_ID": "c0ffee", "MLFLOW_EXPERIMENT_NAME": "theirs", "PREFECT_PROFILE": "theirs", "GIT_DIR": "/theirs", "DVC_EXP_NAME": "x",
}  # fmt: skip


@pytest.mark.parametrize("words", [("status",), ("plan", "--json"), ("recommend", "--text", "x")])
def test_what_another_tool_has_left_in_the_environment_is_not_followed(
    toy: MakeToy, here: Cli, words: tuple[str, ...]
) -> None:
    workspace = toy(DIAMOND)
    done = here(*words, cwd=workspace.root, **OTHERS)
    assert f"note: not followed here, another tool has set it: {', '.join(sorted(OTHERS))}\n" in done.stderr
    assert not OTHERS.keys() & os.environ.keys()
    assert "--json" not in words or json.loads(done.stdout)["pending"] == 4
    assert "not followed" not in here(*words, cwd=workspace.root).stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("training:", "trainning:", ("trainning", "did you mean 'training'")),
        ("  steps: ", "  stepps: ", ("training.stepps: unknown key", "training.steps: missing")),
        ("  text_dropout: 0", "  text_dropout: 7", ("training.text_dropout", "less than or equal to 1", "7")),
        ("  segment_s: ", "  segment_s: 5", ("features", "segment_s")),
        ("training:", "training: {}\ntraining:", ("'training' stands twice",)),
        ("training:", "\t- {", ("not valid YAML",)),
    ],
)
def test_wrong_params_are_2_and_nothing_starts(
    toy: MakeToy, here: Cli, old: str, new: str, words: tuple[str, ...]
) -> None:
    workspace = toy(DIAMOND)
    params = workspace.root / "params.yaml"
    assert old in params.read_text()
    params.write_text(params.read_text().replace(old, new, 1))
    done = here("retrain", cwd=workspace.root)
    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml") and done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert not workspace.state.exists() and not (workspace.root / "first.txt").exists()


def test_plan_says_why_as_json(toy: MakeToy, here: Cli) -> None:
    workspace = toy(DIAMOND)
    inner = workspace.root / "notes"
    inner.mkdir()
    done = here("plan", "--json", cwd=inner)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["pending"] == 4
    assert plan["stages"][1] | {"description": ""} == {
        "name": "branch@left", "description": "", "runs": True, "rows": "",
        "why": ["has never run", "after first"],
    }  # fmt: skip


def test_status_of_a_new_workspace_creates_nothing(toy: MakeToy, here: Cli) -> None:
    workspace = toy(DIAMOND)
    done = here("status", "--json", cwd=workspace.root)
    assert done.returncode == 0, done.stderr
    now = json.loads(done.stdout)
    assert now["last_run"] is None and now["busy"] is None and now["models"]["versions"] == 0
    assert not workspace.mlflow_database.exists()


def test_doctor_shows_no_secret(toy: MakeToy, here: Cli) -> None:
    workspace = toy(DIAMOND)
    uri = "http://me:hush-2@127.0.0.1:9"
    secrets = {"AWS_SECRET_ACCESS_KEY": "hush-1", "MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_PASSWORD": "hush-3"}
    done = here("doctor", "--json", cwd=workspace.root, **secrets)
    report = json.loads(done.stdout)
    assert "hush" not in done.stdout + done.stderr
    shown = {
        name: value for name, value in report["environment"].items() if value and name.startswith(("aws", "tracking"))
    }
    assert shown == {"aws_secret_access_key": "set, not shown", "tracking_uri": "http://me:***@127.0.0.1:9"}
    found = {check["name"]: check for check in report["checks"]}
    assert found["python"]["ok"] and not found["MLflow"]["ok"] and "does not answer" in found["MLflow"]["found"]


def test_doctor_explains_every_key(here: Cli) -> None:
    rows = json.loads(here("doctor", "--params", "--json", cwd=ROOT).stdout)
    keys = {row["key"]: row for row in rows}
    assert len(keys) == len(rows), "a key is explained once"
    assert keys["training.text_dropout"]["type"] == "float, >= 0, <= 1"
    assert "video is not ignored" in keys["training.text_dropout"]["meaning"]
    assert all(row["meaning"] for row in rows)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("recommend",), 2, "give a VIDEO"),
        (("recommend", "absent.mp4"), 1, "absent.mp4: no such file"),
        (("recommend", "."), 1, "is a folder"),
        (("recommend", "--text", "calm piano"), 1, "no model has the alias 'champion'"),
    ],
)
def test_recommend_refuses_clearly(toy: MakeToy, here: Cli, words: tuple[str, ...], code: int, message: str) -> None:
    done = here(*words, cwd=toy(DIAMOND).root)
    assert done.returncode == code
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_register_needs_something_to_register(toy: MakeToy, here: Cli) -> None:
    done = here("register", cwd=toy(DIAMOND).root)
    assert done.returncode == 1 and "nothing to register" in done.stderr
