"""MLflow, Prefect and the worker: how they start on top of PostgreSQL and S3, and when they are well."""

import os
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from flows.environment import TELEMETRY
from flows.ledger.attempts import worker_name
from infra.health import ask, problem
from infra.part import Part
from infra.ports import HOST
from infra.state import BUCKETS, POOL, USER, State, write_private

_WORKER = "stack"
_PROJECT = Path(__file__).resolve().parent.parent


def configure(state: State) -> None:
    """Write what MLflow reads from a file: where its users are."""
    write_private(
        state.folder / "mlflow-auth.ini",
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {state.database('mlflow_auth')}\n"
        f"admin_username = {USER}\n"
        "auth_cache_ttl_seconds = 60\n"  # else each request hashes the password anew, which is slow by design
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
    )


def mlflow(state: State) -> Part:
    """MLflow with basic authentication; clients read and write artifacts in S3 themselves."""
    environment = {
        **TELEMETRY,
        **state.s3_exports(),  # its pages show artifacts
        "MLFLOW_BACKEND_STORE_URI": state.database("mlflow"),
        "MLFLOW_AUTH_CONFIG_PATH": str(state.folder / "mlflow-auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": state.secrets["mlflow"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": state.secrets["mlflow_forms"],
        # Without this it starts ten processes and takes 1 GB.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", HOST]
    command += ["--port", str(state.ports.mlflow), "--workers", "1", "--no-serve-artifacts"]
    command += ["--default-artifact-root", f"s3://{BUCKETS[1]}"]
    question = f"{state.mlflow_url}/api/2.0/mlflow/experiments/search"
    return Part(
        "mlflow",
        state.folder,
        command,
        partial(problem, question, USER, state.secrets["mlflow"], {"max_results": 1}),
        environment,
    )


def prefect(state: State) -> Part:
    """Prefect with a password, and with the services that schedule runs and start automations."""
    environment = {
        **TELEMETRY,
        "PREFECT_HOME": str(state.folder / "prefect"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": state.database("prefect", "postgresql+asyncpg"),
        "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{state.secrets['prefect']}",
        # Its pages ask port 4200, whatever port it has, unless they are told.
        "PREFECT_UI_API_URL": f"{state.prefect_url}/api",
        # In memory, as by default, its restart would end every run of a deployment that has a limit.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(state.ports.prefect)]
    return Part(
        "prefect",
        state.folder,
        command,
        partial(problem, f"{state.prefect_url}/api/ready", USER, state.secrets["prefect"]),
        environment,
    )


def worker(state: State) -> Part:
    """A worker with the environment of a user of the stack; at its start it clears up after dead runs."""
    environment = {
        **TELEMETRY,
        **state.exports(),
        "PREFECT_HOME": str(state.folder / "worker"),
        "NEEDLEDROP_SOURCE": str(_PROJECT),
        "NEEDLEDROP_CHECKOUTS": str(state.folder / "checkouts"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    command = [sys.executable, "-m", "flows.cli", "worker", "--pool", POOL, "--name", _WORKER]
    part = Part("worker", state.folder, command, lambda: _worker_problem(state, part), environment, cwd=_PROJECT)
    return part


def _worker_problem(state: State, part: Part) -> str | None:
    """Tell whether Prefect has heard of it since it started."""
    process = part.process()
    if process is None:
        return "it does not run"
    try:
        workers: list[dict[str, Any]] = ask(
            f"{state.prefect_url}/api/work_pools/{POOL}/workers/filter", USER, state.secrets["prefect"], {}
        )
    except (OSError, ValueError) as error:
        return f"Prefect does not tell: {error}"
    heard = [row["last_heartbeat_time"] for row in workers if row["name"] == worker_name(_WORKER)]
    if heard and datetime.fromisoformat(heard[0]).timestamp() >= process.create_time():
        return None
    return "Prefect has not heard of it yet"
