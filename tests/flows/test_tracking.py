"""The workspace's own MLflow store: made whole or not at all."""

import shutil
from pathlib import Path

import pytest

from flows.environment import read_environment, retrying
from flows.registry.tracking import Unreachable, connect, experiment_id
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace


def test_a_store_whose_making_was_cut_off_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: dict[str, str]
) -> None:
    from mlflow.store.tracking import sqlalchemy_store

    whole = sqlalchemy_store.SqlAlchemyStore.__init__

    def cut_off(store: object, uri: str, *rest: object) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half a database")
        raise KeyboardInterrupt

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace, environment = Workspace(tmp_path), read_environment()
    monkeypatch.setattr(sqlalchemy_store.SqlAlchemyStore, "__init__", cut_off)
    with pytest.raises(KeyboardInterrupt):
        connect(Platform(workspace, environment))
    assert not workspace.mlflow_database.exists()
    monkeypatch.setattr(sqlalchemy_store.SqlAlchemyStore, "__init__", whole)
    assert connect(Platform(workspace, environment)).search_registered_models() == []
    assert [path.name for path in workspace.state.iterdir() if "part" in path.name] == []


def run_with_a_file(workspace: Workspace, name: str) -> str:
    """Make an experiment, and a run in it that has a file; return the run's id."""
    client = connect(Platform(workspace, read_environment()))
    run = client.create_run(experiment_id(client, workspace, "needledrop"))
    client.log_text(run.info.run_id, name, "name.txt")
    return str(run.info.run_id)


def test_a_copied_workspace_uses_its_own_files_and_a_moved_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, copy, moved = (Workspace(tmp_path / name) for name in ("first", "a copy of 100 % # 2", "moved"))
    kept = run_with_a_file(first, "first")
    shutil.copytree(first.root, copy.root)
    assert "copied or moved" not in capsys.readouterr().err
    new = run_with_a_file(copy, "copy")
    said = f"this workspace was copied or moved from {first.root}: 3 addresses in its MLflow store led there"
    assert said in capsys.readouterr().err, "Default, the experiment, its run"
    assert [path.read_text() for path in first.state.rglob("name.txt")] == ["first"]
    assert sorted(path.read_text() for path in copy.state.rglob("name.txt")) == ["copy", "first"]

    shutil.rmtree(first.root)
    copy.root.rename(moved.root)
    client = connect(Platform(moved, read_environment()))
    for run, name in ((kept, "first"), (new, "copy")):
        assert mlflow.artifacts.load_text(f"{client.get_run(run).info.artifact_uri}/name.txt") == name
    capsys.readouterr()
    connect(Platform(moved, read_environment()))
    assert "copied or moved" not in capsys.readouterr().err, "once"


def test_addresses_elsewhere_and_a_link_to_the_same_place_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, link = Workspace(tmp_path / "first"), Workspace(tmp_path / "link")
    client = connect(Platform(first, read_environment()))
    places = {"bucket": "s3://b/.needledrop/mlartifacts", "folder": (tmp_path / "elsewhere").as_uri()}
    for name, place in places.items():
        client.create_experiment(name, place)
    link.root.symlink_to(first.root)
    for workspace in (link, first):
        client = connect(Platform(workspace, read_environment()))
        assert {name: client.get_experiment_by_name(name).artifact_location for name in places} == places
        assert client.get_experiment_by_name("Default").artifact_location.startswith(first.state.as_uri())


@pytest.mark.parametrize(("together_s", "waited"), [(0.0, []), (10.0, [1, 2, 4]), (40.0, [1, 2, 4, 8, 12, 12])])
def test_pauses_grow_and_end_before_the_time_is_over(
    together_s: float, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # After 7 s the next pause would be of 8 s, which 10 s do not have; after 39 s one of 12 s.
    clock, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    def fails() -> None:
        raise Unreachable("away")

    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", sleep)
    with pytest.raises(Unreachable):
        retrying(together_s, Unreachable)(fails)
    assert slept == waited


def test_another_error_is_not_tried_again() -> None:
    with pytest.raises(ZeroDivisionError):
        retrying(60.0, Unreachable)(lambda: 1 / 0)
