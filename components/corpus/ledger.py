"""What a folder of made or fetched files holds, so that a second run makes only what is missing.

``files.json`` lies in the folder itself and maps each name to the content key it was made for and its
size. A file counts as there only if both match; whatever else lies in the folder is removed.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from components.stage import write_json

NAME = "files.json"


class Ledger:
    """The finished files of one folder."""

    def __init__(self, folder: Path) -> None:
        """Read the folder's ledger; an absent or damaged one means that nothing is finished."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        try:
            entries = json.loads((folder / NAME).read_text(encoding="utf-8"))
            self._entries = {str(name): (str(key), int(size)) for name, (key, size) in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._entries = {}

    def has(self, name: str, key: str) -> bool:
        """Tell whether ``name`` is there, whole, and made for ``key``."""
        try:
            return self._entries.get(name) == (key, (self.folder / name).stat().st_size)
        except OSError:
            return False

    def add(self, finished: Iterable[tuple[str, str]]) -> None:
        """Record files that are now complete, as (name, key), and write the ledger."""
        for name, key in finished:
            self._entries[name] = (key, (self.folder / name).stat().st_size)
        self._save()

    def keep_only(self, names: Iterable[str]) -> None:
        """Remove every file (and then empty folder) that is not among ``names``."""
        wanted = set(names)
        self._entries = {name: entry for name, entry in self._entries.items() if name in wanted}
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path != self.folder / NAME and path.relative_to(self.folder).as_posix() not in wanted:
                path.unlink()
        self._save()

    def _save(self) -> None:
        if self._entries:
            write_json(self.folder / NAME, {name: list(entry) for name, entry in self._entries.items()})
        else:
            (self.folder / NAME).unlink(missing_ok=True)
