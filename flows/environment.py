"""What comes from outside the workspace: URIs, credentials, pool sizes. Read here and nowhere else.

`params.yaml` says what is computed; this says where and with which rights. A stage sees none of it,
except the standard `AWS_*` variables that boto3 reads by itself.
"""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.errors import USAGE, Refusal

if TYPE_CHECKING:
    from tenacity import Retrying

# Libraries that report home unless told not to.
TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# An unreachable server must cost seconds, not the libraries' default of many minutes.
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
}

# Nobody waits at the terminal of a worker: its runs ride out a server that is away for some minutes.
PATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7",
    "PREFECT_CLIENT_MAX_RETRIES": "8",
    "NEEDLEDROP_PATIENCE_S": "120",
}

_PREFECT = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # its first start migrates a database
    "PREFECT_CLI_COLORS": "false",
}


_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_OWN_HOSTS = ("127.0.0.1", "localhost", "::1")

GIT_LOCAL = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX",
)  # fmt: skip
"""Variables that name a repository, see git(1)."""

_OF_OTHERS = frozenset((
    # another tool's run, experiment, model, folder or copy of a database: what is logged or read would be theirs
    "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_CONTEXT", "MLFLOW_ACTIVE_MODEL_ID",
    "MLFLOW_TRACKING_DIR", "MLFLOW_REGISTRY_DIR", "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_ENABLE_ASYNC_LOGGING", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION",
    # another server's database, a profile or a block that is not in our PREFECT_HOME, no temporary server, Prefect's own tests
    "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "PREFECT_SERVER_EPHEMERAL_ENABLED", "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK",
    "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK", "PREFECT_TASKS_DEFAULT_STORAGE_BLOCK", "PREFECT_TEST_MODE", "PREFECT_UNIT_TEST_MODE",
    # what a hook has, which speaks of the hook's own repository
    *GIT_LOCAL,
    # a stage or an experiment of another DVC project
    "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_EXP_AUTO_PUSH", "DVC_EXP_GIT_REMOTE",
))  # fmt: skip
"""Variables that other tools leave behind, and that would lead the libraries away from this workspace."""

_LONGEST_PAUSE_S = 12.0  # between two tries

_SECRET = re.compile(r"(?i)([^=&]*(?:pass|token|secret|key|sig)[^=&]*=)[^&]*")
_SECRET_NAME = re.compile(r"(?i)pass|token|secret|key|webhook|auth")
_LOGIN = re.compile(r"://[^/@\s]*?:([^/\s]+)@")
_LEAST_SECRET = 6  # characters; fewer are part of ordinary words


class Environment(BaseSettings):
    """Settings of the process, from environment variables."""

    model_config = SettingsConfigDict(
        env_prefix="NEEDLEDROP_",
        env_ignore_empty=True,  # what a compose file or a secret hands on of a variable that nobody has set
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        populate_by_name=True,
    )

    workers: int = Field(default=2, ge=1, le=64)
    """Stages that may run at the same time (`NEEDLEDROP_WORKERS`)."""

    patience_s: float = Field(default=0.0, ge=0.0, le=3600.0)
    """Seconds for which MLflow and the ledger are asked again when nothing answers (`NEEDLEDROP_PATIENCE_S`); a worker sets 120."""

    version_limit_s: float = Field(default=120.0, gt=0.0)
    """Seconds that the code of a model version may take to answer (`NEEDLEDROP_VERSION_LIMIT_S`)."""

    version_memory_mib: int = Field(default=16384, ge=1024)
    """MiB of memory that the code of a model version may ask for (`NEEDLEDROP_VERSION_MEMORY_MIB`)."""

    tracking_uri: str | None = Field(default=None, repr=False, validation_alias="MLFLOW_TRACKING_URI")
    """MLflow tracking store and registry; default: `.needledrop/mlflow.db` in the workspace."""

    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")
    """Prefect server; default: a temporary one for each run, over `.needledrop/prefect`."""

    prefect_api_key: SecretStr | None = Field(default=None, validation_alias="PREFECT_API_KEY")
    """Key for a Prefect server that wants one."""

    mlflow_username: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_USERNAME")
    """User of an MLflow server with basic authentication."""

    mlflow_password: SecretStr | None = Field(default=None, validation_alias="MLFLOW_TRACKING_PASSWORD")
    """Password of an MLflow server with basic authentication."""

    mlflow_token: SecretStr | None = Field(default=None, validation_alias="MLFLOW_TRACKING_TOKEN")
    """Bearer token of an MLflow server."""

    ledger_url: str | None = Field(default=None, repr=False)
    """Database of releases, audit log and leases (`NEEDLEDROP_LEDGER_URL`); default: `.needledrop/ledger.db`."""

    source: str | None = Field(default=None)
    """Git repository that deployed runs take their code from, a path or an address (`NEEDLEDROP_SOURCE`)."""

    checkouts: Path | None = Field(default=None)
    """Folder on a worker's machine for the workspaces of deployed runs and their DVC cache (`NEEDLEDROP_CHECKOUTS`)."""

    webhook_url: SecretStr | None = Field(default=None)
    """Where notices go (`NEEDLEDROP_WEBHOOK_URL`): a Slack-compatible web address, or any that apprise knows; it is a secret."""

    dvc_remote: str | None = Field(default=None)
    """Where `push` and `pull` share files (`NEEDLEDROP_DVC_REMOTE`), e.g. `s3://needledrop-dvc/cache`."""

    aws_endpoint_url: str | None = Field(default=None, validation_alias="AWS_ENDPOINT_URL")
    """S3 service other than Amazon's, for media, artifacts and the DVC remote."""

    aws_region: str | None = Field(default=None, validation_alias="AWS_DEFAULT_REGION")
    """Region of the S3 service."""

    aws_access_key_id: SecretStr | None = Field(default=None, validation_alias="AWS_ACCESS_KEY_ID")
    """Key id for the S3 service."""

    aws_secret_access_key: SecretStr | None = Field(default=None, validation_alias="AWS_SECRET_ACCESS_KEY")
    """Secret for the S3 service."""

    aws_session_token: SecretStr | None = Field(default=None, validation_alias="AWS_SESSION_TOKEN")
    """Session token for the S3 service."""

    def redacted(self) -> dict[str, Any]:
        """Every setting as text that is safe to print: secrets say only whether they are set."""
        shown: dict[str, Any] = {}
        for name, value in self:
            if isinstance(value, SecretStr):
                shown[name] = "set, not shown"
            elif isinstance(value, str):
                shown[name] = redact(value)
            else:
                shown[name] = value
        return shown


def redact(uri: str) -> str:
    """Return `uri` without the password that may stand before its host or in its query."""
    parts = urlsplit(uri)
    if parts.query:
        parts = parts._replace(query=_SECRET.sub(r"\1***", parts.query))
        uri = urlunsplit(parts)
    if "@" not in parts.netloc:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}{':***' if colon else ''}@{host}"))


def public(uri: str) -> str | None:
    """Return the address of a server as a link may show it, without login, query and last slash; None where it is no web address."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https"):
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def without_secrets(text: str) -> str:
    """Return `text` with stars for what the environment holds as a password, token or key, or within an address."""
    secrets: set[str] = set()
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name):
            secrets |= {value, value.partition("://")[2].partition("/")[2]}  # a webhook's path alone is enough
        if name.endswith("_AUTH_STRING"):  # user:password
            secrets.add(value.partition(":")[2])
        if "@" in value and (login := _LOGIN.search(value)):
            secrets |= {login[1], unquote(login[1])}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, "***")
    return text


def read_environment() -> Environment:
    """Read the settings.

    Raises:
        Refusal: a variable has a value that cannot be used; the message names it.
    """
    try:
        return Environment()
    except ValidationError as error:
        detail = error.errors()[0]
        name = str(detail["loc"][0])
        name = name if name.isupper() else f"NEEDLEDROP_{name.upper()}"
        raise Refusal(f"{name}: {detail['msg'].lower()} (got {detail['input']!r})", USAGE) from None


def prepare(prefect_home: Path, verbose: bool = False) -> Environment:
    """Set safe defaults for the libraries, before any of them is imported, and read the settings.

    Variables that the user set stay as they are, but for those of another tool's run or repository: they are taken away, and
    that is said on standard error.

    Args:
        prefect_home: where Prefect keeps its own state.
        verbose: show Prefect's own log.
    """
    defaults = {
        **TELEMETRY,
        **_MLFLOW,
        **_PREFECT,
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "WARNING",
        # Lines of stages go to Prefect's own log; the terminal has them from us already.
        "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "INFO",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if verbose else "CRITICAL",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if others := sorted(_OF_OTHERS & os.environ.keys()):
        print(f"note: not followed here, another tool has set it: {', '.join(others)}", file=sys.stderr, flush=True)
        for name in others:
            del os.environ[name]
    _ask_own_servers_directly()
    return read_environment()


def _ask_own_servers_directly() -> None:
    """Keep a proxy that the environment names for what is elsewhere; of servers on this machine it knows nothing."""
    both = [name for upper in (*_PROXIES, "NO_PROXY") for name in (upper, upper.lower())]
    found = {name: value for name in both if (value := os.environ.get(name))}
    spared = [found.pop(name, "") for name in ("NO_PROXY", "no_proxy")]
    if found:
        hosts = [host.strip() for hosts in spared for host in hosts.split(",")]
        together = ",".join(host for host in dict.fromkeys((*hosts, *_OWN_HOSTS)) if host)
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = together


def retrying(together_s: float, *passing: type[BaseException]) -> "Retrying":
    """Return what calls something again, with growing pauses, while it raises one of `passing`.

    Args:
        together_s: for how long; the last error is raised then. At 0 nothing is tried again.
        passing: errors that another try may mend.
    """
    from tenacity import Retrying, retry_if_exception_type, stop_before_delay, wait_exponential

    pauses = wait_exponential(multiplier=1, max=_LONGEST_PAUSE_S)  # 1, 2, 4, ... seconds
    return Retrying(
        stop=stop_before_delay(together_s), wait=pauses, retry=retry_if_exception_type(passing), reraise=True
    )


def apart_environment(mark: dict[str, str]) -> dict[str, str]:
    """The environment of a model version's own code: ours, without the addresses and secrets of the platform and the hub."""
    ours = ("NEEDLEDROP_", "MLFLOW_", "PREFECT_", "AWS_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return environment | TELEMETRY | _MLFLOW | {"HF_HUB_OFFLINE": "1"} | mark


def child_environment(mark: dict[str, str]) -> dict[str, str]:
    """The environment of a stage's process: ours, with our interpreter first on the path."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["PYTHONUNBUFFERED"] = "1"  # a line shows when it is printed
    environment["PYTHONIOENCODING"] = "utf-8:replace"  # as we read it, whatever a terminal may speak
    environment["SHELL"] = "/bin/sh"  # what DVC runs commands with; a service account's may be nologin
    environment.update(mark)
    return environment
