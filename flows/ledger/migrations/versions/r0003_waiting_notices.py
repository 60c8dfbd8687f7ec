"""Notices keep their text, so that another process can tell what the one that noted it could not."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; what was told before has no text."""
    op.add_column("notices", sa.Column("text", sa.Text))
    op.add_column("notices", sa.Column("tries", sa.Integer, nullable=False, server_default="0"))
    op.add_column("notices", sa.Column("noted", sa.Text))
