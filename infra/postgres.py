"""PostgreSQL: one server, a database and a role each for MLflow, Prefect and the ledger."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from flows.errors import ERROR, Refusal
from infra.part import Part
from infra.ports import HOST
from infra.state import State, role_of

DATABASES = ("mlflow", "mlflow_auth", "prefect", "ledger")

_ADMIN = "postgres"
_ACCOUNTS = ("postgres", "nobody")  # whom it runs as when root starts it; it refuses root
_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "log_min_messages": "warning",
}


def part(state: State) -> Part:
    """Return the server, with its data folder made at the first start."""
    data = state.folder / "postgres"
    command = [str(_binary("postgres")), "-D", str(data), "-p", str(state.ports.postgres)]
    for name, value in _OPTIONS.items():
        command += ["-c", f"{name}={value}"]
    return Part(
        "postgres",
        state.folder,
        command,
        lambda: _problem(state),
        user=_account(),
        stop_signal=signal.SIGINT,  # ends sessions and shuts down cleanly; the default waits for them
    )


def initialise(state: State) -> None:
    """Make the data folder, with password authentication for everyone; whole, or not at all.

    Raises:
        Refusal: no PostgreSQL is installed, or its account cannot reach the folder.
    """
    data, account = state.folder / "postgres", _account()
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(data, ignore_errors=True)
    if account:
        _require_reachable(state.folder, account)
    # initdb leaves no folder behind when it fails; the password goes by a file that only its account reads.
    data.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=state.folder, prefix=".password-") as password:
        password.write(state.secrets["postgres"])
        password.flush()
        if account:
            for path in (data, Path(password.name)):
                shutil.chown(path, account, pwd.getpwnam(account).pw_gid)
        done = subprocess.run(
            [_binary("initdb"), "-D", data, "-U", _ADMIN, "-A", "scram-sha-256", "--pwfile", password.name,
             "-E", "UTF8", "--locale", "C", "--no-instructions"],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            user=account,
            extra_groups=[] if account else None,
        )  # fmt: skip
    if done.returncode:
        raise Refusal(f"initdb: {' '.join(done.stderr.split())[-300:]}", ERROR)


def make_databases(state: State) -> None:
    """Make each role and database that is missing; a role may connect to its own databases only."""
    from psycopg2 import sql

    connection = _connect(state, _ADMIN, state.secrets["postgres"], "postgres")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for name in DATABASES:
                role, database = sql.Identifier(role_of(name)), sql.Identifier(name)
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role_of(name),))
                verb = "ALTER" if cursor.fetchone() else "CREATE"
                password = sql.Literal(state.secrets[f"{role_of(name)}_database"])
                cursor.execute(sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}").format(role, password))
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
                    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    finally:
        connection.close()


def _problem(state: State) -> str | None:
    import psycopg2

    try:
        _connect(state, _ADMIN, state.secrets["postgres"], "postgres").close()
    except psycopg2.Error as error:
        return " ".join(str(error).split())
    return None


def _connect(state: State, user: str, password: str, database: str):  # type: ignore[no-untyped-def]
    import psycopg2

    return psycopg2.connect(
        host=HOST, port=state.ports.postgres, user=user, password=password, dbname=database, connect_timeout=5
    )


def _binary(name: str) -> Path:
    """Find a program of PostgreSQL: on PATH, in Debian's folders, or in the package `pgserver`.

    Raises:
        Refusal: there is none.
    """
    # Debian's folders first: its wrappers on PATH may be of another version than its initdb.
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True
    )
    package = importlib.util.find_spec("pgserver")
    if found := shutil.which(name):
        folders.append(Path(found).resolve().parent)
    if package and package.origin:
        folders.append(Path(package.origin).parent / "pginstall" / "bin")
    for folder in folders:
        if (folder / name).is_file() and (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder / name
    raise Refusal("PostgreSQL is not installed: install your system's package, or `pip install pgserver`", ERROR)


def _account() -> str | None:
    """Whom the server runs as: the caller, or an unprivileged account where the caller is root."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Refusal("PostgreSQL refuses to run as root, and there is no account 'postgres' or 'nobody'", ERROR)


def _require_reachable(folder: Path, account: str) -> None:
    for parent in (folder, *folder.parents):
        if subprocess.run(["test", "-x", parent], user=account, extra_groups=[], check=False, cwd="/").returncode:
            raise Refusal(
                f"PostgreSQL runs as '{account}' and cannot enter {parent}; choose another place with --folder", ERROR
            )
