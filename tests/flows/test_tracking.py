"""The workspace's own MLflow store: made whole or not at all."""

from pathlib import Path

import pytest

from flows.environment import read_environment
from flows.registry.tracking import connect, pauses
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


def test_pauses_grow_and_end_when_the_time_is_over() -> None:
    assert list(pauses(10.0)) == [1, 3, 6]
    assert list(pauses(40.0)) == [1, 3, 6, 12, 12, 6]
    assert list(pauses(0.0)) == []
