"""The workspace: the folder that holds `dvc.yaml`, and where the platform keeps its own state."""

from dataclasses import dataclass
from pathlib import Path

from flows.errors import USAGE, Refusal

LOCK_FILE = "dvc.lock"


@dataclass(frozen=True)
class Workspace:
    """A folder with a `dvc.yaml`. State that is not data lives in `.needledrop/`, ignored by git."""

    root: Path

    @property
    def state(self) -> Path:
        """Everything the flows write: logs, local databases, reports, the lock."""
        return self.root / ".needledrop"

    @property
    def prefect_home(self) -> Path:
        """Prefect's database and settings."""
        return self.state / "prefect"

    @property
    def mlflow_database(self) -> Path:
        """The default tracking store and model registry."""
        return self.state / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts of runs in the default tracking store."""
        return self.state / "mlartifacts"

    @property
    def runs(self) -> Path:
        """One folder per retrain: its state and a log per stage."""
        return self.state / "runs"

    @property
    def lock_file(self) -> Path:
        """Held by the one command that may change this workspace."""
        return self.state / "lock"

    @property
    def ledger(self) -> Path:
        """The default database of releases, audit log and leases."""
        return self.state / "ledger.db"

    @property
    def receipt(self) -> Path:
        """What the last registration was."""
        return self.state / "registered.json"

    @property
    def code(self) -> Path:
        """Digest of the code, as it was last computed."""
        return self.state / "code.json"

    @property
    def verified(self) -> Path:
        """What is known of the stored files of versions that were asked, and copies of those that lie elsewhere."""
        return self.state / "verified"

    @property
    def reports(self) -> Path:
        """HTML reports of the last registration."""
        return self.state / "reports"


def find_workspace(start: Path | None = None) -> Workspace:
    """Return the nearest folder at or above `start` (default: the current one) with a `dvc.yaml`.

    Raises:
        Refusal: there is none, or its path has a question mark.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            if "?" in str(folder):  # the address of a SQLite file ends there: it would lie elsewhere, and be shared
                raise Refusal(f"{folder}: a workspace's path can have no question mark: rename the folder", USAGE)
            return Workspace(folder)
    raise Refusal(f"no dvc.yaml in {here} or above: run from a Needledrop project", USAGE)
