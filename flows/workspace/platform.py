"""The platform as one workspace sees it: its own folder, and what the environment says is around it."""

from dataclasses import dataclass

from flows.environment import Environment, prepare, read_environment
from flows.workspace.workspace import Workspace


@dataclass(frozen=True)
class Platform:
    """A workspace with the settings in force there; where no server is named, the workspace has its own."""

    workspace: Workspace
    environment: Environment

    @classmethod
    def at(cls, workspace: Workspace) -> "Platform":
        """The platform around `workspace`, by the environment variables of this moment.

        Raises:
            Refusal: a variable has a value that cannot be used; the message names it.
        """
        return cls(workspace, read_environment())

    @classmethod
    def prepared(cls, workspace: Workspace, verbose: bool = False) -> "Platform":
        """The same, with the libraries' defaults set before any of them is imported; see `prepare`."""
        return cls(workspace, prepare(workspace.prefect_home, verbose))

    @property
    def tracking_uri(self) -> str:
        """The MLflow URI in force."""
        return self.environment.tracking_uri or f"sqlite:///{self.workspace.mlflow_database}"

    @property
    def ledger_url(self) -> str:
        """The ledger's database URL in force."""
        return self.environment.ledger_url or f"sqlite:///{self.workspace.ledger}"
