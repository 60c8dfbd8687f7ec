"""The way to MLflow: where it is, whether it answers, and in few words when it does not."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.stage import atomic_file
from flows.environment import redact, retrying
from flows.errors import Refusal
from flows.registry.hints import hint
from flows.registry.moved import lead_here
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "needledrop"
MODEL = "needledrop"

_KIND = {"mlflow.experimentKind": "custom_model_development"}  # its page begins with runs and charts, not with traces
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
_PATIENCE_S = 10.0
_CONNECT_S = 3.0


class Unreachable(Refusal):
    """MLflow does not answer, or refuses."""


def connect(platform: Platform, patient: bool = True) -> "MlflowClient":
    """Return a client of the tracking store in force, once it answers, and let MLflow's own functions use that store.

    Args, errors: as `client_of`.
    """
    client = client_of(platform, patient)
    import mlflow

    uri = platform.tracking_uri
    with answering(uri):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        if platform.environment.tracking_uri is None:  # MLflow writes it there; it is not the user's word
            os.environ.pop("MLFLOW_TRACKING_URI", None)
    return client


def client_of(platform: Platform, patient: bool = True) -> "MlflowClient":
    """Return a client of the tracking store in force, once it answers; nothing of the process changes, so threads may ask.

    Args:
        platform: may name a server; the default is a database in the workspace.
        patient: try again, with growing pauses, for ten seconds or as long as the settings say.

    Raises:
        Unreachable: nothing answers at the address.
    """
    uri = platform.tracking_uri
    patience_s = max(_PATIENCE_S, platform.environment.patience_s) if patient else 0.0
    retrying(patience_s, Unreachable)(_require_connection, uri)
    platform.workspace.state.mkdir(parents=True, exist_ok=True)
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with answering(uri):
        if platform.environment.tracking_uri is None:
            if not platform.workspace.mlflow_database.exists():
                _create_database(platform.workspace)
            lead_here(platform.workspace)
        return mlflow.MlflowClient(uri, uri)


def _require_connection(uri: str) -> None:
    if problem := connection_problem(uri):
        raise Unreachable(f"MLflow at {redact(uri)} does not answer ({problem})")


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
    place = None if served else workspace.mlflow_artifacts.as_uri()
    return str(client.create_experiment(name, place, _KIND))


def exists(platform: Platform) -> bool:
    """Tell whether the tracking store exists already: a look must not create a database."""
    return platform.environment.tracking_uri is not None or platform.workspace.mlflow_database.exists()


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


def shown_aliases(client: "MlflowClient") -> dict[str, int]:
    """Return every alias that MLflow shows of the model, with its version's number; none where nothing is registered."""
    found = client.search_registered_models(f"name = '{MODEL}'")
    return {alias: int(number) for model in found for alias, number in model.aliases.items()}
