"""Whose a run in MLflow is: the workspace that writes it, and may take it away again."""

import hashlib
import platform
from typing import Final

from flows.workspace.workspace import Workspace

WORKSPACE_TAG: Final = "needledrop.workspace"


def workspace_id(workspace: Workspace) -> str:
    """A name for this workspace that tells nothing about the machine."""
    return hashlib.sha256(f"{platform.node()}:{workspace.root}".encode()).hexdigest()[:16]
