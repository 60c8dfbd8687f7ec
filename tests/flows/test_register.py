"""Registration on small real artifacts: once per content, whole or not at all, and loadable anywhere."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import delete, update

from flows.environment import prepare
from flows.errors import Refusal
from flows.ledger.database import transaction
from flows.ledger.lease import LEASES, LeaseLost, lease
from flows.registration import register as registering
from flows.registration.code import code_of
from flows.registration.register import Registration, register, remembered
from flows.registry.tracking import Unreachable
from flows.release.mirror import DIGEST_TAG, mirror, standing
from flows.release.releases import champion, move
from flows.release.unit import MismatchedPair
from flows.workspace.graph import Graph
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

from .conftest import ROOT, Cli


def client(workspace: Workspace) -> Any:
    from flows.registry.tracking import connect

    return connect(Platform.at(workspace))


def versions(workspace: Workspace) -> list[int]:
    return sorted(int(version.version) for version in client(workspace).search_model_versions("name = 'needledrop'"))


def live_runs(workspace: Workspace) -> list[Any]:
    mlflow = client(workspace)
    return list(mlflow.search_runs([mlflow.get_experiment_by_name("needledrop").experiment_id]))


def test_a_model_is_the_challenger_and_the_run_holds_what_it_takes(workspace: Workspace, graph: Graph) -> None:
    done = register(graph, Platform.at(workspace))
    assert (done.version, done.new, done.aliases) == (1, True, ["challenger"])
    assert "it does not know its commit" in done.sentence() and "not a git repository" in done.note
    mlflow = client(workspace)
    assert mlflow.get_registered_model("needledrop").aliases == {"challenger": 1}
    run = mlflow.get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags[DIGEST_TAG] == done.digest and run.data.tags["mlflow.source.git.commit"]
    assert run.data.params["training.text_dropout"] == str(
        yaml.safe_load((ROOT / "params.yaml").read_text())["training"]["text_dropout"]
    )
    assert run.data.metrics["track.video_to_music.video-and-text.R10.low"] == 0.6
    assert [point.step for point in mlflow.get_metric_history(done.run_id, "train.loss")] == [0, 25, 50]
    assert run.data.metrics["captions/yield"] == 0.97 and "captions/leaks" not in run.data.metrics
    assert len(run.data.metrics) < 150
    prompt = run.data.tags["needledrop.prompt"]
    assert prompt == "prompts:/needledrop-analogy/1" and mlflow.load_prompt(prompt).template.endswith("\n[Output]:")
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "manifest" and dataset.dataset.digest == "0" * 32
    names = {
        item.path
        for folder in ("", "evaluation", "plots", "reports", "drift-reference")
        for item in mlflow.list_artifacts(done.run_id, folder)
    }
    assert names >= {
        "dvc.lock", "params.yaml", "environment.txt", "validate-docs", "captioning-quality", "evaluation/metrics.json", "evaluation/ranks.parquet",
        "evaluation/summary.json", "plots/recall.png", "reports/corpus.html", "drift-reference/clips.parquet", "drift-reference/reference.json",
    }  # fmt: skip


def test_an_edited_taxonomy_is_another_version_and_a_comment_is_none(workspace: Workspace, graph: Graph) -> None:
    first = register(graph, Platform.at(workspace))
    code = workspace.root / "components"
    for file in ("features/harmony.py", "taxonomy.py"):
        path = code / file
        path.write_text(f"# A comment.\n{path.read_text()}".replace('"""\n', ' Words."""\n', 1))
    again = register(graph, Platform.at(workspace))
    assert (again.version, again.new) == (first.version, False) and versions(workspace) == [1]

    path = code / "taxonomy.yaml"
    path.write_text(path.read_text().replace("folk", "folksy", 1))
    second = register(graph, Platform.at(workspace))
    assert (second.version, second.new) == (2, True) and versions(workspace) == [1, 2]


def test_the_code_of_a_version_is_all_that_it_brings(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_of(workspace)
    remembered = workspace.code.read_bytes()
    assert code_of(workspace) == before and workspace.code.read_bytes() == remembered
    monkeypatch.setattr("flows.registration.code.version", lambda name: "1.0")
    assert code_of(workspace) != before
    monkeypatch.undo()

    model = shutil.copytree(ROOT / "flows" / "registration", tmp_path / "flows" / "registration") / "pyfunc_model.py"
    monkeypatch.setattr("flows.registration.code.MODEL_FILE", model)
    model.write_text(f"# A comment.\n{model.read_text()}")
    assert code_of(workspace) == before
    model.write_text(model.read_text().replace("DEFAULT_K = 10", "DEFAULT_K = 11"))
    assert code_of(workspace) != before
    (workspace.root / "components" / "media.py").write_text("def half(:\n")
    with pytest.raises(Refusal, match=r"components/media\.py, line 1: cannot be parsed"):
        code_of(workspace)


def test_the_same_content_is_registered_once_and_new_content_again(workspace: Workspace, graph: Graph) -> None:
    first, again = register(graph, Platform.at(workspace)), register(graph, Platform.at(workspace))
    assert (again.version, again.new, again.digest) == (first.version, False, first.digest)
    assert versions(workspace) == [1] and len(live_runs(workspace)) == 1

    params = workspace.root / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("resamples: ", "resamples: 1", 1))
    second = register(graph, Platform.at(workspace))
    assert (second.version, second.new, second.aliases) == (2, True, ["challenger"])
    params.write_text(before)
    assert (register(graph, Platform.at(workspace)).version, register(graph, Platform.at(workspace)).aliases) == (
        1,
        ["challenger"],
    )
    assert client(workspace).get_registered_model("needledrop").aliases == {"challenger": 1}, "what the files hold"


def test_a_run_that_changed_nothing_need_not_ask_mlflow(workspace: Workspace, graph: Graph) -> None:
    assert remembered(graph, Platform.at(workspace)) is None
    done = register(graph, Platform.at(workspace))
    known = remembered(graph, Platform.at(workspace))
    assert known is not None
    assert (known.version, known.new, known.aliases) == (done.version, False, done.aliases)
    params = workspace.root / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("resamples: ", "resamples: 1", 1))
    assert remembered(graph, Platform.at(workspace)) is None, "other content"
    params.write_text(before)
    workspace.mlflow_database.unlink()
    assert remembered(graph, Platform.at(workspace)) is None, "the store is gone"


def test_a_release_in_the_ledger_is_what_the_files_hold(workspace: Workspace, graph: Graph) -> None:
    done = register(graph, Platform.at(workspace))
    (release,) = standing(Platform.at(workspace)).releases
    assert (release.version, release.digest, release.state) == (1, done.digest, "registered")
    assert release.run_id == done.run_id and release.manifest == "0" * 32
    config = workspace.root / graph["training"].argument("model") / "config.json"
    assert release.model == hashlib.sha256(config.read_bytes()).hexdigest()
    features = {name: about["features"] for name, about in json.loads(config.read_text())["modalities"].items()}
    assert release.specs == features and set(features) == {"music", "video", "text"}
    table = workspace.root / graph["indexing"].argument("index") / "catalogue.parquet"
    assert release.catalogue == hashlib.sha256(table.read_bytes()).hexdigest()


def test_an_index_of_another_model_is_not_registered(workspace: Workspace, graph: Graph) -> None:
    meta = workspace.root / graph["indexing"].argument("index") / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"model": "f" * 64}))
    with pytest.raises(MismatchedPair, match=r"made with model ffffffffffff.*`needledrop retrain`"):
        register(graph, Platform.at(workspace))
    assert client(workspace).search_registered_models() == []
    assert standing(Platform.at(workspace)).releases == ()


def test_a_receipt_without_its_row_in_the_ledger_is_not_believed(workspace: Workspace, graph: Graph) -> None:
    register(graph, Platform.at(workspace))
    workspace.ledger.unlink()
    assert remembered(graph, Platform.at(workspace)) is None


STEPS = {
    "as the run starts": "flows.registration.record.log_params",
    "inside the model": "mlflow.tracking.MlflowClient.finalize_logged_model",
    "before the version": "mlflow.register_model",
    "before the ledger": "flows.registration.entry.add",
    "before the aliases": "flows.registration.register.mirror",
}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_then_again_gives_one_version(
    workspace: Workspace, graph: Graph, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:  # dies as by kill -9: nothing is cleaned up
        monkeypatch.setattr(STEPS[step], lambda *_, **__: os._exit(9))
        register(graph, Platform.at(workspace))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    done = register(graph, Platform.at(workspace))
    assert (done.version, done.new) == (1, step not in ("before the ledger", "before the aliases"))
    assert done.aliases == ["challenger"]
    assert versions(workspace) == [1]
    assert client(workspace).get_registered_model("needledrop").aliases == {"challenger": 1}
    (release,) = standing(Platform.at(workspace)).releases
    assert (release.version, release.run_id) == (1, done.run_id)
    (run,) = live_runs(workspace)
    assert (run.info.run_id, run.info.status) == (done.run_id, "FINISHED")
    mlflow = client(workspace)
    models = mlflow.search_logged_models([run.info.experiment_id])
    assert [model.source_run_id for model in models] == [done.run_id]


def test_who_has_lost_the_lease_registers_nothing(workspace: Workspace, graph: Graph) -> None:
    platform = Platform.at(workspace)
    with pytest.raises(LeaseLost, match="the lease 'pipeline' was lost"), lease(platform, "pipeline", 600):
        with transaction(platform) as connection:
            connection.execute(update(LEASES).values(token="another's"))  # noqa: S106
        register(graph, platform)
    assert versions(workspace) == [] and live_runs(workspace) == []
    with transaction(platform) as connection:
        connection.execute(delete(LEASES))
    with lease(platform, "pipeline", 600):
        assert register(graph, platform).version == 1


def test_a_server_that_does_not_answer_is_tried_again_and_then_named(
    workspace: Workspace, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(Unreachable, match="`needledrop register` later") as refusal:
        register(graph, Platform.at(workspace))
    assert refusal.value.code == 1
    assert len(pauses) >= 3 and 5 < sum(pauses) < 20
    assert "127.0.0.1:9" in str(refusal.value) and "secret" not in str(refusal.value)


ELSEWHERE = """
import json, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/needledrop@challenger")
answer = model.predict(pd.DataFrame([{"text": "calm piano", "k": 3}, {"text": "loud drums", "k": 2}]))
left = [name for name in sys.modules if name.startswith("components")]
print(json.dumps({"left": left, "rows": answer.to_dict("records")}))
"""


def test_the_model_answers_in_another_process_and_after_a_rollback_as_before(
    workspace: Workspace, graph: Graph, tmp_path: Path, clean_environment: dict[str, str], here: Cli
) -> None:
    done: Registration = register(graph, Platform.at(workspace))
    empty = tmp_path / "empty"
    empty.mkdir()
    uri = f"sqlite:///{workspace.mlflow_database}"
    alone = {name: value for name, value in clean_environment.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, uri],
        cwd=empty,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    answer = json.loads(found.stdout.splitlines()[-1])
    assert answer["left"] == [], "the host's modules are as they were"
    assert [(row["query"], row["rank"]) for row in answer["rows"]] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    scores = [row["score"] for row in answer["rows"] if row["query"] == 0]
    assert scores == sorted(scores, reverse=True)

    asked = here("recommend", "--text", "calm piano", "-k", "3", "--json", cwd=workspace.root)
    assert asked.returncode == 0, asked.stderr
    said = json.loads(asked.stdout)
    assert said["model"] == f"needledrop version {done.version}"
    assert said["alias"] == "challenger" and "no champion yet" in said["note"]
    assert [(row["clip_id"], row["score"]) for row in said["ranking"]] == [
        (row["clip_id"], row["score"]) for row in answer["rows"] if row["query"] == 0
    ]

    # Another encoder becomes champion, and is rolled back.
    crown(workspace, 1)
    encoder = workspace.root / "components/encoder/model.py"
    encoder.write_text(
        encoder.read_text().replace("return self._embed(lambda: self.query", "return -self._embed(lambda: self.query")
    )
    assert register(graph, Platform.at(workspace)).version == 2
    crown(workspace, 2)
    words = ("recommend", "--text", "calm piano", "-k", "3", "--json")
    other = json.loads(here(*words, cwd=workspace.root).stdout)
    assert other["model"] == "needledrop version 2" and other["ranking"] != said["ranking"]
    assert here("rollback", "--by", "Ada", "--reason", "worse", cwd=workspace.root).returncode == 0
    again = json.loads(here(*words, cwd=workspace.root).stdout)
    assert (again["model"], again["alias"], again["note"]) == ("needledrop version 1", "champion", "")
    assert again["ranking"] == said["ranking"], "to the bit: it is the old version's code that answers"


def crown(workspace: Workspace, number: int) -> None:
    """Make a version the champion, in the ledger and in MLflow."""
    with transaction(Platform.at(workspace)) as connection:
        before = champion(connection)
        move(connection, number, "registered", "evaluated", "gate", "began")
        move(connection, number, "evaluated", "passed", "gate", "passed", "e" * 64)
        move(connection, number, "passed", "approved", "Ada", "good")
        if before:
            move(connection, before.version, "champion", "superseded", "Ada", "another is better")
        move(connection, number, "approved", "champion", "Ada", "better")
    mirror(Platform.at(workspace))


def test_the_digest_covers_code_params_and_files(workspace: Workspace, graph: Graph) -> None:
    from flows.registry.digest import digests

    first = digests(graph, workspace, code_of(workspace))
    assert digests(graph, workspace, code_of(workspace)) == first
    with (workspace.root / "components/modalities.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    assert digests(graph, workspace, code_of(workspace)).content != first.content
    assert digests(graph, workspace, code_of(workspace)).params == first.params


@pytest.mark.parametrize("name", ["params.yaml", "components/media.py"])
def test_an_edit_while_it_is_registered_is_said_and_leaves_nothing(
    workspace: Workspace, graph: Graph, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from flows.registration import record

    def edited(*arguments: Any) -> Any:
        text = (workspace.root / name).read_text()
        (workspace.root / name).write_text(f"{text}\n# edited\n")
        source = made(*arguments)
        (workspace.root / name).write_text(text)  # what was copied meanwhile is not known
        return source

    made = record.model_source
    monkeypatch.setattr(record, "model_source", edited)
    with pytest.raises(Refusal, match=f"{name} was edited while the result was being registered"):
        register(graph, Platform.at(workspace))
    assert versions(workspace) == [] and live_runs(workspace) == []
    monkeypatch.undo()
    assert register(graph, Platform.at(workspace)).version == 1


def test_a_version_that_was_deleted_in_mlflow_is_entered_anew(workspace: Workspace, graph: Graph) -> None:
    platform = Platform.at(workspace)
    first = register(graph, platform)
    client(workspace).delete_model_version("needledrop", str(first.version))
    second = register(graph, platform)
    assert (second.version, second.new, second.aliases, second.instead_of) == (2, True, ["challenger"], 1)
    assert "instead of version 1, which is gone from MLflow" in second.sentence()
    assert [(one.version, one.state) for one in standing(platform).releases] == [(1, "registered"), (2, "registered")]
    again, known = register(graph, platform), remembered(graph, platform)
    assert (again.version, again.new) == (2, False) and known is not None and known.version == 2
    assert versions(workspace) == [2]


def test_content_that_the_ledger_refuses_leaves_no_version(workspace: Workspace, graph: Graph) -> None:
    platform = Platform.at(workspace)
    register(graph, platform)
    client(workspace).delete_registered_model("needledrop")  # MLflow's numbers begin anew
    taxonomy = workspace.root / "components/taxonomy.yaml"
    before = taxonomy.read_text()
    taxonomy.write_text(f"{before}# another\n")
    with pytest.raises(Refusal, match="a new MLflow store needs a new ledger"):
        register(graph, platform)
    assert versions(workspace) == [] and len(live_runs(workspace)) == 1, "that of the deleted version alone"
    client(workspace).delete_registered_model("needledrop")
    taxonomy.write_text(before)
    assert register(graph, platform).version == 1, "what it was"


def test_another_tools_run_is_left_alone(
    workspace: Workspace, graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = client(workspace)
    theirs = mlflow.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    prepare(workspace.prefect_home)
    assert register(graph, Platform.at(workspace)).run_id != theirs
    assert mlflow.get_run(theirs).data.params == {}
    assert "MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID" in capsys.readouterr().err


def test_files_that_are_not_of_the_params_of_now_are_not_registered(workspace: Workspace, here: Cli) -> None:
    done = here("register", cwd=workspace.root)
    assert done.returncode == 1 and "stage 'corpus' is out of date" in done.stderr
    assert not workspace.receipt.exists()


def test_nothing_is_registered_from_files_that_were_never_made(workspace: Workspace, graph: Graph) -> None:
    (workspace.root / "dvc.lock").unlink()
    with pytest.raises(registering.Refusal, match="needledrop retrain"):
        register(graph, Platform.at(workspace))


HOST = """
import json, sys
import components
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
models = [mlflow.pyfunc.load_model(f"models:/needledrop/{number}") for number in (1, 2)]
import components.later
asked = pd.DataFrame([{"text": "calm piano", "k": 3}])
answers = [model.predict(asked)["score"].tolist() for model in [*models, *models]]
print(json.dumps({"host": [components.VALUE, components.later.VALUE], "answers": answers}))
"""


@pytest.mark.stack
def test_two_versions_answer_within_a_host_that_has_packages_of_the_same_name(
    workspace: Workspace, graph: Graph, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    register(graph, Platform.at(workspace))
    encoder = workspace.root / "components/encoder/model.py"
    turned = encoder.read_text().replace(
        "return self._embed(lambda: self.query", "return -self._embed(lambda: self.query"
    )
    assert turned != encoder.read_text()
    encoder.write_text(turned)
    register(graph, Platform.at(workspace))
    host = tmp_path / "host" / "components"
    host.mkdir(parents=True)
    (host / "__init__.py").write_text("VALUE = 'of the host'\n")
    (host / "later.py").write_text("VALUE = 'imported later'\n")
    found = subprocess.run(
        [sys.executable, "-c", HOST, f"sqlite:///{workspace.mlflow_database}"],
        cwd=host.parent,
        env={name: value for name, value in clean_environment.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    said = json.loads(found.stdout.splitlines()[-1])
    assert said["host"] == ["of the host", "imported later"]
    first, second, again, again_second = said["answers"]
    assert (first, second) == (again, again_second) and first != second, "each by its own code"
