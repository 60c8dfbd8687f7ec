"""The record of each retrain: `.needledrop/runs/<id>/run.json` and one log file per stage."""

import json
import secrets
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.workspace.workspace import Workspace

KEEP = 50  # finished runs whose logs stay


class Run:
    """One retrain: its id, its folder, and its state, written at every change."""

    def __init__(self, workspace: Workspace) -> None:
        """Start a new record in `workspace`."""
        now = datetime.now(UTC)
        self.id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self.folder = workspace.runs / self.id
        self.folder.mkdir(parents=True)
        self._guard = threading.Lock()
        self._state: dict[str, Any] = {
            "id": self.id,
            "started": now.isoformat(timespec="seconds"),
            "finished": None,
            "state": "running",
            "stages": [],
        }
        self._write()

    def log_path(self, stage: str) -> Path:
        """Where the output of `stage` goes."""
        return self.folder / f"{stage.replace('/', '_').replace(':', '_')}.log"

    def stage(self, row: dict[str, Any]) -> None:
        """Record a stage that ended."""
        with self._guard:
            self._state["stages"].append(row)
            self._write()

    def finish(self, state: str, **more: Any) -> None:
        """Record how the run ended: finished, failed or interrupted."""
        with self._guard:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._state.update(state=state, finished=now, **more)
            self._write()

    def _write(self) -> None:
        part = self.folder / ".run.json.part"
        part.write_text(json.dumps(self._state, indent=2) + "\n", encoding="utf-8")
        part.replace(self.folder / "run.json")


def read_runs(workspace: Workspace) -> list[dict[str, Any]]:
    """Every run on record, newest first; a record that cannot be read is left out."""
    runs = []
    for path in sorted(workspace.runs.glob("*/run.json"), reverse=True):
        try:
            runs.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return runs


def unfinished(workspace: Workspace) -> list[str]:
    """Ids of runs that never said how they ended."""
    return [run["id"] for run in read_runs(workspace) if run["state"] == "running"]


def close_unfinished(workspace: Workspace, run_ids: list[str]) -> None:
    """Mark runs whose process died as killed."""
    for run in read_runs(workspace):
        if run["id"] in run_ids:
            run["state"] = "killed"
            path = workspace.runs / run["id"] / "run.json"
            part = path.with_name(".run.json.part")
            part.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
            part.replace(path)


def prune(workspace: Workspace) -> None:
    """Remove the logs of all but the newest runs."""
    for run in read_runs(workspace)[KEEP:]:
        shutil.rmtree(workspace.runs / run["id"], ignore_errors=True)
