"""The list of clips that a test set had when it was first imported, so that later results stay comparable.

Videos vanish from the web: two people who import the same CSV do not have the same clips. The list names
them, with a digest; whoever imports with it gets those clips and no others, or is told which are gone.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from components.stage import write_json
from flows.errors import Refusal

FORMAT: Final = "needledrop.frozen/1"

Entry = Mapping[str, Any]  # id, start, end, text, split


def digest_of(entries: Sequence[Entry]) -> str:
    """Return the sha256 over the sorted (id, start, end, text), one JSON list a line."""
    lines = sorted(_line(entry) for entry in entries)
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def freeze(path: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """Write the list of ``entries`` and return it."""
    frozen = {
        "format": FORMAT,
        "sha256": digest_of(entries),
        "clips": len(entries),
        "splits": dict(sorted(Counter(entry["split"] or "drawn" for entry in entries).items())),
        "rows": {entry["id"]: _row_digest(entry) for entry in entries},
    }
    write_json(path, frozen)
    return frozen


def read_frozen(path: Path) -> dict[str, Any]:
    """Read a list.

    Raises:
        Refusal: absent, or not such a list.
    """
    try:
        frozen = json.loads(path.read_text(encoding="utf-8"))
        if frozen["format"] == FORMAT and isinstance(frozen["rows"], dict) and isinstance(frozen["sha256"], str):
            return dict(frozen)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except (ValueError, KeyError, TypeError):
        pass
    raise Refusal(f"{path}: not a list that `needledrop import-annotations` wrote; move it away to freeze a new one")


def is_of(frozen: Mapping[str, Any], entry: Entry) -> bool:
    """Tell whether the list has this very row: the same id, times and text."""
    return bool(frozen["rows"].get(entry["id"]) == _row_digest(entry))


def _line(entry: Entry) -> str:
    return json.dumps([entry["id"], entry["start"], entry["end"], entry["text"]], ensure_ascii=True)


def _row_digest(entry: Entry) -> str:
    return hashlib.sha256(_line(entry).encode()).hexdigest()[:16]
