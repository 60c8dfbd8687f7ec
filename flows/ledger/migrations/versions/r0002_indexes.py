"""Indexes for what is looked for at every start and every promotion: years of runs and of audit rows are not walked."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("attempts_by_state", "attempts", ["state", "told"])
    op.create_index("attempts_by_flow", "attempts", ["flow", "ended"])
    op.create_index("audit_by_version", "audit", ["version"])
