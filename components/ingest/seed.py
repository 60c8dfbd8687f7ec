"""The seed library: tagged tracks that the probe tagger is fitted on, ``path,group,name``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from components.containers import MediaError
from components.ingest.examine import Finding
from components.ingest.manifest import clip_id
from components.ingest.paths import contained
from components.ingest.rows import Row, RowError, clean_text, leads_out, read_csv, shown
from components.modalities import TAG_GROUPS

COLUMNS: Final = ("path", "group", "name")
_NAME_CHARS: Final = 100


def read_seed_tags(path: Path) -> tuple[dict[str, list[dict[str, str]]], list[dict[str, str]]]:
    """Read the tags of each seed file.

    Returns:
        Tags (group, name), in the order of the groups, then by name, by the file's uri; and rows of
        `tables.QUARANTINE` for what cannot be used.

    Raises:
        ValueError: a column is missing.
    """
    tags: dict[str, set[tuple[str, str]]] = {}
    quarantine: list[dict[str, str]] = []
    root = path.parent.resolve()
    for row in read_csv(path, COLUMNS):
        try:
            uri, group, name = _tag(row, path.parent, root)
            tags.setdefault(uri, set()).add((group, name))
        except (RowError, MediaError) as error:
            where = f"{path.as_posix()}:{row.line}"
            quarantine.append({"uri": where, "stage": "ingest", "reason": error.reason, "detail": error.detail})
    ordered = {uri: sorted(pairs, key=lambda pair: (TAG_GROUPS.index(pair[0]), pair[1])) for uri, pairs in tags.items()}
    return {uri: [{"group": g, "name": n} for g, n in pairs] for uri, pairs in ordered.items()}, quarantine


def seed_rows(
    tags: Mapping[str, list[dict[str, str]]], findings: Mapping[str, Finding]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Make rows of `tables.SEED` of the usable files, and rows of `tables.QUARANTINE` of the others."""
    rows: dict[str, dict[str, Any]] = {}
    quarantine: list[dict[str, str]] = []
    for uri in sorted(tags):
        found = findings[uri]
        reason, detail = found.reason, found.detail
        identity = clip_id(found)
        if not reason and identity in rows:
            reason, detail = "duplicate", f"same bytes as {rows[identity]['uri']}"
        if reason:
            quarantine.append({"uri": uri, "stage": "ingest", "reason": reason, "detail": detail})
            continue
        bounds = {"start_s": found.start_s, "end_s": found.end_s}
        rows[identity] = {"clip_id": identity, "uri": uri, "sha256": found.sha256, **bounds, "tags": tags[uri]}
    return list(rows.values()), quarantine


def _tag(row: Row, folder: Path, root: Path) -> tuple[str, str, str]:
    if row.error:
        raise row.error
    name, group, relative = clean_text(row.values["name"]), row.values["group"].strip(), row.values["path"].strip()
    if not relative or leads_out(relative):
        raise RowError("unsafe_path", f"path {shown(relative)} leads out of the seed library's folder")
    if group not in TAG_GROUPS:
        raise RowError("unknown_group", f"group {shown(group)} is not one of {', '.join(TAG_GROUPS)}")
    if not name or len(name) > _NAME_CHARS:
        raise RowError("bad_name", f"a tag's name has 1 to {_NAME_CHARS} characters, this one {len(name)}")
    return contained(folder / relative, root).as_posix(), group, name
