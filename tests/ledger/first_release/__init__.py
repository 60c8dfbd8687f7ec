"""A ledger as the first release wrote it: three versions, their log, a killed run and its leases, notices, a trigger."""

from pathlib import Path

from sqlalchemy import MetaData, select
from sqlalchemy.engine import Connection

TABLES = {"releases": 3, "audit": 18, "leases": 2, "attempts": 4, "notices": 2, "drift_triggers": 1}
"""How many rows each table has."""


def write(connection: Connection, *tables: str) -> None:
    """Make the tables as that release made them on this database, with their rows; only `tables` where some are named."""
    for name in (f"{connection.dialect.name}.sql", "rows.sql"):
        text = (Path(__file__).parent / name).read_text(encoding="utf-8")
        # A trigger's body has a semicolon too, which no line ends with but the last.
        for statement in text.partition("\n")[2].strip().removesuffix(";").split(";\n"):
            others = set(TABLES) - set(tables or TABLES)
            if not any(f"{word}{name}{end}" in statement for name in others for word, end in _ABOUT):
                connection.exec_driver_sql(statement)


_ABOUT = (("CREATE TABLE ", " ("), ('INSERT INTO "', '"'))  # how a statement about one table names it


_LATER = {"notices.text", "notices.tries", "notices.noted"}  # columns that later releases have added


def rows(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table of that release, with the columns that it had."""
    found = MetaData()
    found.reflect(connection, only=list(TABLES))
    asked = {name: [one for one in of.columns if str(one) not in _LATER] for name, of in found.tables.items()}
    return {name: sorted(tuple(row) for row in connection.execute(select(*of))) for name, of in asked.items()}
