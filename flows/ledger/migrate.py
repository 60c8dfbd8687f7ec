"""Bring a ledger's tables to those of this release, whole or not at all, from whatever release it is of."""

import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final

from sqlalchemy import Column, MetaData, Table, Text, inspect, select
from sqlalchemy.engine import Connection, make_url

from flows.environment import redact
from flows.ledger.errors import LedgerNewer

FOLDER: Final = Path(__file__).parent / "migrations"
REVISIONS: Final = ("0001", "0002", "0003")
"""Every revision of the tables, in order; the last is what this release works with."""
HEAD: Final = REVISIONS[-1]

VERSION_TABLE: Final = "ledger_revision"
"""Not alembic's usual name: MLflow may keep its own tables in the same database."""
_VERSION: Final = Table(VERSION_TABLE, MetaData(), Column("version_num", Text))


def revision(connection: Connection, url: str) -> str | None:
    """Return the revision of the tables; None where there are none, or those of a time before revisions.

    Args:
        connection: to the ledger.
        url: of the ledger, for the message.

    Raises:
        LedgerNewer: a later release has been here.
    """
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(select(_VERSION.c.version_num)).scalar_one_or_none()
    if found is not None and found not in REVISIONS:
        raise LedgerNewer(
            f"the ledger at {redact(url)} was made by a newer Needledrop (revision {found}, this one knows up to "
            f"{HEAD}); nothing was changed: upgrade this one"
        )
    return found


def migrate(connection: Connection, url: str) -> None:
    """Make the tables, or bring those of an earlier release to this one's; nothing where they are so.

    Cut off anywhere, it has not happened. Of a file a copy is made before, and said.

    Args:
        connection: inside a writer's transaction, in which all of it is done.
        url: of the ledger, for messages and for the copy.

    Raises:
        LedgerNewer: a later release has been here; nothing was changed.
        DBAPIError: the database does not let us.
    """
    before = revision(connection, url)
    if before == HEAD:  # another did it while this one waited for its turn
        return
    if connection.dialect.name == "sqlite" and inspect(connection).get_table_names():
        kept = _keep(Path(make_url(url).database or ""))
        words = f"the ledger is brought from revision {before or REVISIONS[0]} to {HEAD}; as it was it stays in {kept}"
        print(words, file=sys.stderr, flush=True)
    _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    import logging

    from alembic import command
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    command.upgrade(config, HEAD)


def _keep(file: Path) -> Path:
    """Copy a ledger's file beside it, whole or not at all; return the copy. An earlier copy stays."""
    names = (f"{file.stem}-before-{HEAD}{'' if number == 1 else f'-{number}'}{file.suffix}" for number in count(1))
    kept = next(path for path in map(file.with_name, names) if not path.exists())
    part = kept.with_name(f".{kept.name}.part")
    part.unlink(missing_ok=True)
    # The writer's transaction has changed nothing yet, so another connection may read.
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
    part.replace(kept)
    return kept
