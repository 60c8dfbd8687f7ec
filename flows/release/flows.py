"""Approval, promotion and rollback as Prefect flows, for a button in its UI or an automation."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.environment import prepare
from flows.release import actions
from flows.workspace import find_workspace


@flow(name="approve", retries=0, persist_result=False)
def approve(root: Path, version: int, by: str, reason: str, override_inconclusive: bool = False) -> dict[str, Any]:
    """Sign a model version off that passed its gate, and return the release as plain values.

    Args:
        root: The project's folder, where dvc.yaml is.
        version: The model version; its gate must have passed.
        by: Who answers for it; shown on the model version's page and written into the audit log.
        reason: Why, in words.
        override_inconclusive: Approve although the gate could not tell; never after a failed gate.
    """
    workspace = find_workspace(root)
    return actions.approve(prepare(workspace), workspace, version, by, reason, override_inconclusive).as_json()


@flow(name="promote", retries=0, persist_result=False)
def promote(root: Path, version: int, by: str, expect: int | None = None) -> dict[str, Any]:
    """Make an approved model version the champion, and return the release as plain values.

    Args:
        root: The project's folder, where dvc.yaml is.
        version: The model version; it must be approved.
        by: Who promotes it; written into the audit log.
        expect: Refuse unless this version is champion now; 0 for none yet. Empty: the one that it was gated against.
    """
    workspace = find_workspace(root)
    return actions.promote(prepare(workspace), workspace, version, by, expect).as_json()


@flow(name="rollback", retries=0, persist_result=False)
def rollback(root: Path, by: str, reason: str, expect: int | None = None) -> dict[str, Any]:
    """Restore the previous champion, model and index together, and return its release as plain values.

    Args:
        root: The project's folder, where dvc.yaml is.
        by: Who rolls back; written into the audit log.
        reason: Why, in words; shown on the model version's page.
        expect: Refuse unless this version is champion now, so that a second try does not go back twice.
    """
    workspace = find_workspace(root)
    return actions.rollback(prepare(workspace), workspace, by, reason, expect).as_json()
