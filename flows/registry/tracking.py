"""The way to MLflow: where it is, whether it answers, and in few words when it does not."""

import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.stage import atomic_file
from flows.environment import Environment, redact
from flows.errors import Refusal
from flows.registry.hints import hint
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "needledrop"
MODEL = "needledrop"

_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
_PAUSES_S = (1.0, 3.0, 6.0, 12.0)  # between tries; the last one again and again
_PATIENCE_S = 10.0
_CONNECT_S = 3.0


class Unreachable(Refusal):
    """MLflow does not answer, or refuses."""


def connect(environment: Environment, workspace: Workspace, patient: bool = True) -> "MlflowClient":
    """Return a client of the tracking store in force, once it answers.

    Args:
        environment: may name a server; the default is a database in the workspace.
        workspace: the workspace.
        patient: try again, with growing pauses, for ten seconds or as long as the settings say.

    Raises:
        Unreachable: nothing answers at the address.
    """
    uri = environment.tracking(workspace)
    if problem := connection_problem(uri):
        for pause in pauses(max(_PATIENCE_S, environment.patience_s) if patient else 0.0):
            time.sleep(pause)
            problem = connection_problem(uri)
            if problem is None:
                break
        if problem:
            raise Unreachable(f"MLflow at {redact(uri)} does not answer ({problem})")
    workspace.state.mkdir(parents=True, exist_ok=True)
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with answering(uri):
        if environment.tracking_uri is None and not workspace.mlflow_database.exists():
            _create_database(workspace)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        if environment.tracking_uri is None:  # MLflow writes it there; it is not the user's word
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        return mlflow.MlflowClient(uri, uri)


def pauses(together_s: float) -> Iterator[float]:
    """Yield the pauses between tries, growing, for `together_s` seconds."""
    for pause in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
        if together_s <= 0:
            return
        yield min(pause, together_s)
        together_s -= pause


def _create_database(workspace: Workspace) -> None:
    """Make the workspace's own store, whole or not at all.

    MLflow makes its tables in dozens of steps; killed between them, it can never open the file again.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with atomic_file(workspace.mlflow_database) as part:
        uri, artifacts = f"sqlite:///{part}", workspace.mlflow_artifacts.as_uri()
        store = SqlAlchemyStore(uri, artifacts)  # type: ignore[no-untyped-call]
        store.engine.dispose()


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn MLflow's and the network's errors into one line that names the server."""
    import requests
    from boto3.exceptions import Boto3Error  # of uploads; no kin of the other two
    from botocore.exceptions import BotoCoreError, ClientError  # artifacts may lie in S3
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise Unreachable(f"the artifact store of MLflow at {redact(uri)}: {_short(error)}") from error
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        raise Unreachable(f"MLflow at {redact(uri)}: {_short(error)}") from error


def experiment_id(client: "MlflowClient", workspace: Workspace, name: str) -> str:
    """Return the id of an experiment, which is made where it does not exist yet."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # A server knows where its artifacts go; a bare database would put them into the current folder.
    served = client.tracking_uri.startswith(("http", "databricks"))
    return str(client.create_experiment(name, None if served else workspace.mlflow_artifacts.as_uri()))


def exists(environment: Environment, workspace: Workspace) -> bool:
    """Tell whether the tracking store exists already: a look must not create a database."""
    return environment.tracking_uri is not None or workspace.mlflow_database.exists()


def connection_problem(uri: str) -> str | None:
    """Why no connection can be made to the host of `uri`; None when it can, or when there is no host."""
    parts = urlsplit(uri)
    if not parts.hostname:
        return None
    try:
        port = parts.port or _PORTS.get(parts.scheme.partition("+")[0])
        if port is None:
            return None
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()
    except ValueError:
        return "its port is not a number"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    step = hint(text)
    return (text if len(text) <= 300 else text[:297] + "...") + (f"; {step}" if step else "")
