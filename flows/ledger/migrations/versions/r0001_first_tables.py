"""The tables of the first release. A ledger that release made has no revision yet, and those tables that were used."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_REFUSES = "the audit log is append-only"
_SQLITE = (
    f"CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSES}'); END",
    f"CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSES}'); END",
    # INSERT OR REPLACE deletes without asking the trigger above.
    "CREATE TRIGGER audit_replace BEFORE INSERT ON audit WHEN NEW.number <= (SELECT max(number) FROM audit) "  # noqa: S608
    f"BEGIN SELECT RAISE(ABORT, '{_REFUSES}'); END",
)
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{_REFUSES}'; END $$",
    "CREATE TRIGGER audit_row BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
)


def upgrade() -> None:
    """Make each table that is not there."""
    known = set(sa.inspect(op.get_bind()).get_table_names())
    for table in ("releases", "audit", "leases", "attempts", "notices", "drift_triggers"):
        if table not in known:
            _MAKE[table]()


def _releases() -> None:
    op.create_table(
        "releases",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("index", sa.Text, nullable=False),
        sa.Column("catalogue", sa.Text, nullable=False),
        sa.Column("specs", sa.Text, nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.Column("files", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text),
        sa.Column("approved_by", sa.Text),
        sa.Column("approved_at", sa.Text),
        sa.Column("against", sa.Integer),
        sa.Column("promoted", sa.Integer),
        sa.Column("offered", sa.Integer, nullable=False),
        sa.Column("audited", sa.Integer, nullable=False),
    )
    champion = sa.text("state = 'champion'")
    op.create_index(
        "one_champion", "releases", ["state"], unique=True, sqlite_where=champion, postgresql_where=champion
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("acquired", sa.Text, nullable=False),
        sa.Column("expires", sa.Text, nullable=False),
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("flow", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("began", sa.Text, nullable=False),
        sa.Column("ended", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("inputs", sa.Text),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
    )


def _notices() -> None:
    op.create_table(
        "notices",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )


def _drift_triggers() -> None:
    op.create_table(
        "drift_triggers",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("champion", sa.Integer, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("run", sa.Text),
    )


_MAKE = {
    "releases": _releases,
    "audit": _audit,
    "leases": _leases,
    "attempts": _attempts,
    "notices": _notices,
    "drift_triggers": _drift_triggers,
}
