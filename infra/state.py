"""What a stack keeps in its folder: ports, secrets made at random at the first start, exports for its users.

`secrets.json` holds every password and is read by the parts alone; `env` holds what a user of the stack needs.
Both are readable by their owner only.
"""

import fcntl
import json
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from components.stage import write_json
from flows.errors import BUSY, Refusal
from infra.ports import HOST, Ports

BUCKETS = ("needledrop-dvc", "needledrop-mlflow", "needledrop-media")
POOL = "needledrop-cpu"
REGION = "us-east-1"
USER = "needledrop"

_SECRETS = (
    "postgres", "mlflow_database", "prefect_database", "ledger_database",
    "mlflow", "mlflow_forms", "prefect", "s3", "s3_paths",
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """A stack's folder and ports."""

    folder: Path
    ports: Ports

    @property
    def env(self) -> Path:
        """Shell exports: `source` it to use the stack."""
        return self.folder / "env"

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Every password of the stack, by name; made at the first start."""
        path = self.folder / "secrets.json"
        known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        missing = {name: secrets.token_hex(20) for name in _SECRETS if name not in known}
        if missing:
            write_private(path, json.dumps(known | missing, indent=2))
        return known | missing

    def database(self, name: str, driver: str = "postgresql") -> str:
        """The URL of one database, with its role's password."""
        role = role_of(name)
        return f"{driver}://{role}:{self.secrets[f'{role}_database']}@{HOST}:{self.ports.postgres}/{name}"

    @property
    def s3_endpoint(self) -> str:
        """Address of the S3 service."""
        return f"http://{HOST}:{self.ports.s3}"

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow."""
        return f"http://{HOST}:{self.ports.mlflow}"

    @property
    def prefect_url(self) -> str:
        """Address of Prefect's pages; its API is below `/api`."""
        return f"http://{HOST}:{self.ports.prefect}"

    def exports(self) -> dict[str, str]:
        """The environment of a user of the stack."""
        return {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": self.secrets["mlflow"],
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_API_AUTH_STRING": f"{USER}:{self.secrets['prefect']}",
            "NEEDLEDROP_LEDGER_URL": self.database("ledger", "postgresql+psycopg2"),
            "NEEDLEDROP_DVC_REMOTE": f"s3://{BUCKETS[0]}/cache",
            **self.s3_exports(),
        }

    def s3_exports(self) -> dict[str, str]:
        """The environment of a user of the S3 service alone."""
        return {
            "AWS_ENDPOINT_URL": self.s3_endpoint,
            "AWS_ACCESS_KEY_ID": f"{USER}:stack",
            "AWS_SECRET_ACCESS_KEY": self.secrets["s3"],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Eight tries with growing pauses ride out a server that restarts.
            "AWS_RETRY_MODE": "standard",
            "AWS_MAX_ATTEMPTS": "8",
        }

    def write_env(self) -> None:
        """Write the shell exports."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.exports().items()]
        write_private(self.env, "\n".join(lines) + "\n")


def role_of(database: str) -> str:
    """The PostgreSQL role that owns a database; MLflow's two share one."""
    return database.partition("_")[0]


def read_state(folder: Path) -> State | None:
    """Return the state of a folder where a stack was started before, else None."""
    try:
        return State(folder, Ports(**json.loads((folder / "ports.json").read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise Refusal(f"{folder}/ports.json is damaged ({error}); remove it and start again") from None


def make_state(folder: Path, ports: Ports) -> State:
    """Make the folder and its parts, and remember the ports."""
    for name in ("logs", "run", "worker"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / "ports.json", asdict(ports))
    return State(folder, ports)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at no moment otherwise."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
    part.replace(path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one command at a time start or stop this stack.

    Raises:
        Refusal: another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(f"busy: another command starts or stops the stack in {folder}", BUSY) from None
        yield
