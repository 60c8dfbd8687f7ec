"""The journal of a training: what can be seen of it while it runs, by those who read the file.

JSON lines, appended. It is no output of the stage: times and speed do not repeat. The first line names the training; a run
that goes on from a checkpoint appends to the same file and repeats the steps since, and another training begins a new one:

    {"training": id, "bound_to": digest of data, parameters, code and computer}
    {"step": 25, "at": s since 1970, "figures": {"loss": 4.1, ..., "progress/samples_per_s": 2900.0, "progress/memory_mib": 512.0}}
    {"weights_sha256": of the model that came of it, "speed": {...}}                                             at its end
"""

import json
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components.stage import atomic_file, own_file

LEAST_S: Final = 1.0
SHARE: Final = 0.001
"""A line is due after a second, and after a thousandth of the time since the start: a day has some 5,400 lines."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Line:
    """What was seen at a step: figures of that step, by the names of the history, and of the machine since the line before."""

    step: int
    at: float
    figures: Figures


@dataclass(frozen=True)
class Journal:
    """What a journal says.

    Attributes:
        training: the id of the training; a resumed one keeps it.
        bound_to: what its checkpoint is bound to.
        lines: of the steps, in order; of a step that was repeated, the last line.
        weights_sha256: of the model that came of it; None while it runs, and where it did not end.
        speed: figures of the whole run; empty likewise.
    """

    training: str
    bound_to: str
    lines: tuple[Line, ...]
    weights_sha256: str | None
    speed: dict[str, Any]


def read_journal(path: Path) -> Journal | None:
    """Return what a journal says by now; None where there is none yet. A line that is still being written is left out."""
    try:
        whole = path.read_bytes().rpartition(b"\n")[0]
        first, *rest = [json.loads(line) for line in whole.splitlines()]
        named = (str(first["training"]), str(first["bound_to"]))
        lines = {row["step"]: Line(row["step"], row["at"], row["figures"]) for row in rest if "step" in row}
        ends = [row for row in rest if "weights_sha256" in row]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    end = ends[-1] if ends else {"weights_sha256": None, "speed": {}}
    return Journal(*named, tuple(lines[step] for step in sorted(lines)), end["weights_sha256"], end["speed"])


class JournalWriter:
    """Writes the journal of one training."""

    def __init__(self, path: Path, bound_to: str) -> None:
        self._path, self._bound_to = path, bound_to
        self._began = self._last = time.monotonic()

    def begin(self, resumed: bool) -> None:
        """Go on with the file of the training that is resumed, or begin a new one."""
        found = read_journal(self._path) if resumed else None
        if found is not None and found.bound_to == self._bound_to:
            own_file(self._path)
            _end_last_line(self._path)
            return
        with atomic_file(self._path) as part:
            header = {"training": uuid.uuid4().hex, "bound_to": self._bound_to}
            part.write_text(json.dumps(header) + "\n", encoding="utf-8")

    def due(self) -> bool:
        """Tell whether it is time for another line."""
        now = time.monotonic()
        return now - self._last >= max(LEAST_S, SHARE * (now - self._began))

    def note(self, step: int, figures: Mapping[str, float]) -> None:
        """Append what is seen at a step; figures that are no finite number are left out."""
        self._last = time.monotonic()
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._append({"step": step, "at": round(time.time(), 3), "figures": finite})

    def end(self, weights_sha256: str, speed: Mapping[str, Any]) -> None:
        """Append what came of it."""
        self._append({"weights_sha256": weights_sha256, "speed": dict(speed)})

    def _append(self, row: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _end_last_line(path: Path) -> None:
    """Cut off the half line that a kill left."""
    whole = path.read_bytes()
    kept = whole.rpartition(b"\n")[0] + b"\n"
    if kept != whole:
        with atomic_file(path) as part:
            part.write_bytes(kept)
