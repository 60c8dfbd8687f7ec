"""The workspace's own MLflow store: made whole or not at all."""

from pathlib import Path

import pytest

from flows.environment import read_environment, retrying
from flows.registry.tracking import Unreachable, connect
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
