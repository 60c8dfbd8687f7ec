"""Releases for tests of the ledger alone, and the way up for them."""

from sqlalchemy.engine import Connection

from flows.release.releases import add, champion, move
from flows.release.table import Release

EVIDENCE = "e" * 64


def release(version: int) -> Release:
    """A release whose digests are words."""
    return Release(
        version=version,
        digest=f"content {version}",
        state="registered",
        run_id=f"run {version}",
        model=f"model {version}",
        index=f"index {version}",
        catalogue="catalogue",
        specs={"music": "spec"},
        manifest="manifest",
        params="params",
        code="code",
        commit="commit",
        evidence=None,
        approved_by=None,
        approved_at=None,
        created="2026-01-01T00:00:00+00:00",
        files=f"files {version}",
    )


def approved(connection: Connection, version: int) -> None:
    """Register, gate and approve a version."""
    add(connection, release(version), "register")
    move(connection, version, "registered", "evaluated", "gate", "began")
    move(connection, version, "evaluated", "passed", "gate", "passed", EVIDENCE)
    move(connection, version, "passed", "approved", "Ada", "good")


def crown(connection: Connection, version: int) -> None:
    """Make an approved version champion."""
    if before := champion(connection):
        move(connection, before.version, "champion", "superseded", "Bob", "another is better")
    move(connection, version, "approved", "champion", "Bob", "better")
