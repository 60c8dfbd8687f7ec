"""The pages of MLflow and Prefect over a workspace's own state, on this machine only.

`python infra/local.py` starts both servers on 127.0.0.1, prints their addresses once both answer,
and stops both on Ctrl-C.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from flows.errors import ERROR, OK, Refusal
from flows.registry.moved import lead_here
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace, find_workspace

HOST = "127.0.0.1"
START_S = 120.0
STOP_S = 10.0


@dataclass
class Server:
    """One page: how to start it, and where it says that it is well."""

    name: str
    port: int
    command: list[str]
    health: str
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where to point a browser."""
        return f"http://{HOST}:{self.port}"

    def start(self, log: Path) -> None:
        """Start it in a session of its own, so that it can be stopped with all it starts."""
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def answers(self) -> bool:
        """Tell whether it is well."""
        try:
            with urllib.request.urlopen(f"{self.url}{self.health}", timeout=2) as reply:  # noqa: S310 - our own http address
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, number: signal.Signals) -> None:
        """Signal it and all it has started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def servers(platform: Platform, mlflow_port: int, prefect_port: int) -> list[Server]:
    """The two servers over the workspace's databases, or over the tracking store that the environment names."""
    store = platform.tracking_uri
    mlflow = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1"]
    mlflow += ["--backend-store-uri", store, "--default-artifact-root", platform.workspace.mlflow_artifacts.as_uri()]
    prefect = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)]
    return [Server("MLflow", mlflow_port, mlflow, "/health"), Server("Prefect", prefect_port, prefect, "/api/health")]


def main() -> int:
    """Start both, wait, stop both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    parser.add_argument("--prefect-port", type=int, default=4200)
    arguments = parser.parse_args()
    try:
        workspace = find_workspace()
        platform = Platform.prepared(workspace)
        if (platform.environment.tracking_uri or "").startswith("http"):
            raise Refusal("MLFLOW_TRACKING_URI names a server: its page is there, there is none to start here")
        for port in (arguments.mlflow_port, arguments.prefect_port):
            _free(port)
        # Prefect's page asks port 4200, whatever port the server has, unless it is told.
        os.environ["PREFECT_UI_API_URL"] = f"http://{HOST}:{arguments.prefect_port}/api"
        # Without this the MLflow server starts ten processes and takes 1 GB.
        os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        workspace.state.mkdir(parents=True, exist_ok=True)
        if workspace.mlflow_database.exists():
            lead_here(workspace)
        return _serve(servers(platform, arguments.mlflow_port, arguments.prefect_port), workspace)
    except Refusal as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code


def _serve(pages: list[Server], workspace: Workspace) -> int:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    logs = {page.name: workspace.state / f"{page.name.lower()}-server.log" for page in pages}
    try:
        for page in pages:
            page.start(logs[page.name])
        print("starting MLflow and Prefect (about half a minute)", flush=True)
        deadline = time.monotonic() + START_S
        for page in pages:
            while not page.answers():
                if page.process is None or page.process.poll() is not None or time.monotonic() > deadline:
                    raise Refusal(f"{page.name} did not start; see {logs[page.name]}", ERROR)
                time.sleep(0.3)
        for page in pages:
            print(f"{page.name:<8} {page.url}", flush=True)
        print("Ctrl-C stops both", flush=True)
        while all(page.process is not None and page.process.poll() is None for page in pages):
            time.sleep(0.5)
        ended = next(page for page in pages if page.process is None or page.process.poll() is not None)
        raise Refusal(f"{ended.name} stopped by itself; see {logs[ended.name]}", ERROR)
    except KeyboardInterrupt:
        print("\nstopping", flush=True)
        return OK
    finally:
        _stop(pages)


def _stop(pages: list[Server]) -> None:
    for page in pages:
        page.stop(signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    for page in pages:
        if page.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                page.process.wait(timeout=max(0.1, deadline - time.monotonic()))
        page.stop(signal.SIGKILL)


def _free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise Refusal(f"port {port} is in use; choose others with --mlflow-port and --prefect-port") from None


if __name__ == "__main__":
    sys.exit(main())
