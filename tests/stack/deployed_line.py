"""A small project in a repository of its own, deployed for real: a worker, its runs, and what they leave."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psutil
import yaml

from tests.pipeline.conftest import ROOT, SMALL

Answer = TypeVar("Answer")
IDENTITY = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]


def make_source(folder: Path, sections: dict[str, dict[str, Any]] = SMALL) -> Path:
    """Make a repository with this project's files and other params."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for file in filter(None, listed.split("\0")):
        if (ROOT / file).is_file() and file != "dvc.lock" and not file.startswith(("tests/", "mlruns/")):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes((ROOT / file).read_bytes())
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    for name, keys in sections.items():
        if keys.get("kind", tree[name].get("kind")) != tree[name].get("kind"):
            tree[name] = {key: value for key, value in tree[name].items() if key == "quality"}
        tree[name] |= keys
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    git(folder, "init", "-q")
    commit(folder, "project")
    return folder


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message)


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *IDENTITY, *words], check=True)


def git_head(folder: Path) -> str:
    """The commit that is checked out."""
    words = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


class Line:
    """Deployments of `source`, and at most one worker for them.

    Attributes:
        environment: of the worker and of commands; names the servers and the folder of workspaces.
        log: what the workers say.
    """

    def __init__(self, source: Path, home: Path, environment: dict[str, str]) -> None:
        self.source, self.home = source, home
        self.log = home.parent / "worker.log"
        self.environment = environment | {
            "PYTHONPATH": str(source), "NEEDLEDROP_SOURCE": str(source), "NEEDLEDROP_CHECKOUTS": str(home),
            "PYTHONUNBUFFERED": "1",  # a line is in the log when it is said
        }  # fmt: skip
        self._worker: subprocess.Popen[bytes] | None = None

    def command(self, *words: str, expect: int = 0, cwd: Path | None = None) -> str:
        """Run `needledrop` in the repository, or in a workspace of it."""
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *words],
            cwd=cwd or self.source, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def worker(self) -> psutil.Process:
        """The worker; one is started where none lives."""
        if self._worker is None or self._worker.poll() is not None:
            with self.log.open("ab") as output:
                self._worker = subprocess.Popen(
                    [sys.executable, "-m", "flows.cli", "worker"],
                    cwd=self.source, env=self.environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        return psutil.Process(self._worker.pid)

    def engines(self) -> list[psutil.Process]:
        """The processes of the flow runs that the worker has started."""
        if self._worker is None or self._worker.poll() is not None:
            return []
        children = psutil.Process(self._worker.pid).children()
        return [child for child in children if "prefect" in " ".join(child.cmdline())]

    def stop(self) -> None:
        """Stop the worker as a service manager would."""
        if self._worker is not None and self._worker.poll() is None:
            self._worker.terminate()
            self._worker.wait(60)

    def submit(self, deployment: str, **parameters: Any) -> UUID:
        """Ask for a run, as the button on Prefect's page does."""

        def create(client: Any) -> UUID:
            found = client.read_deployment_by_name(deployment)
            made: UUID = client.create_flow_run_from_deployment(found.id, parameters=parameters).id
            return made

        return _asked(create)

    def state(self, run: UUID) -> tuple[str, str, str]:
        """Type, name and message of a run's state."""
        state = _asked(lambda client: client.read_flow_run(run).state)
        assert state is not None
        return state.type.value, state.name or "", state.message or ""

    def wait(self, run: UUID, within_s: float = 1800.0) -> tuple[str, str, str]:
        """Wait until a run has ended; say how."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.worker()
            state = self.state(run)
            if state[0] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return state
            time.sleep(1)
        raise AssertionError(f"run {run} is {self.state(run)} after {within_s} s\n{self.said()}")

    def said(self) -> str:
        """The end of what the workers said."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    @property
    def slot(self) -> Path:
        """The workspace of the pipeline."""
        return self.home / "pipeline-1"

    def inner_runs(self) -> list[dict[str, Any]]:
        """Records of the retrains in the workspace, newest first."""
        records = []
        for path in sorted(self.slot.glob(".needledrop/runs/*/run.json"), reverse=True):
            try:
                records.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue
        return records


def _asked(question: Callable[[Any], Answer], within_s: float = 240.0) -> Answer:
    """Ask Prefect; where it, or its database, is away, ask again."""
    import httpx
    from prefect.client.orchestration import get_client

    deadline = time.monotonic() + within_s
    while True:
        try:
            with get_client(sync_client=True) as client:
                return question(client)
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def below(folder: Path) -> Iterator[psutil.Process]:
    """Processes that work below a folder."""
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.Error, OSError):
            continue


def kill(processes: list[psutil.Process]) -> None:
    """Kill -9, all at once."""
    for process in processes:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(processes, timeout=20)
