"""A workspace that was copied or moved: its MLflow store names files by absolute addresses, which are those of the old place.

A copy would read and write the files of the original. So addresses in the workspace's own store that lead to the artifacts
of another workspace are turned to its own, whenever a command goes to the store.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from flows.workspace.workspace import Workspace

_COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def lead_here(workspace: Workspace) -> int:
    """Turn addresses of another place in the workspace's own store to its own artifacts; return how many were.

    It is said on standard error. Addresses that lead to something else than a workspace's artifacts stay as they are.
    """
    here = workspace.mlflow_artifacts.resolve()
    below = f"/{workspace.mlflow_artifacts.relative_to(workspace.root).as_posix()}"
    with closing(sqlite3.connect(workspace.mlflow_database, timeout=30.0)) as store:
        foreign = [
            (table, column, address)
            for table, column in _COLUMNS
            for (address,) in _addresses(store, table, column, below)
            if not _is_below(address, here)
        ]
        if not foreign:
            return 0
        with store:  # all of them or none
            for table, column, address in foreign:
                _, _, inside = address.rpartition(below)
                store.execute(
                    f"update {table} set {column} = ? where {column} = ?",  # noqa: S608 - names of ours
                    (f"{here.as_uri()}{inside}", address),
                )
    before = unquote(urlsplit(foreign[0][2].rpartition(below)[0]).path)
    print(
        f"this workspace was copied or moved from {before}: {len(foreign)} addresses in its MLflow store led there and lead "
        f"to its own files now",
        file=sys.stderr,
        flush=True,
    )
    return len(foreign)


def _addresses(store: sqlite3.Connection, table: str, column: str, below: str) -> list[tuple[str]]:
    if column not in {name for _, name, *_ in store.execute(f"pragma table_info({table})")}:  # of an older MLflow
        return []
    asked = f"select distinct {column} from {table} where instr({column}, ?)"  # noqa: S608
    return [row for row in store.execute(asked, (below,)) if row[0].startswith(("file:", "/"))]


def _is_below(address: str, folder: Path) -> bool:
    return Path(unquote(urlsplit(address).path) if address.startswith("file:") else address).is_relative_to(folder)
