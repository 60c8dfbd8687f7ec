"""The keys of params.yaml as a run's parameters."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from components.settings import PARAMS_FILE, read_params
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient


def log_params(client: "MlflowClient", run_id: str, workspace: Workspace, beginnings: tuple[str, ...] = ("",)) -> None:
    """Log the keys of params.yaml by their dotted names: all, or those that begin so."""
    from mlflow.entities import Param

    flat = dict(flatten(read_params(workspace.root / PARAMS_FILE)))
    params = [Param(key, str(value)[:6000]) for key, value in flat.items() if key.startswith(beginnings)]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, leaf) of nested mappings; a list is one leaf, as JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flatten(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, json.dumps(value) if isinstance(value, list) else value
