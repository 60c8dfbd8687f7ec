"""Where a deployed run is, from what it says and what it leaves in its workspace."""

import re
from typing import Any

from tests.stack.deployed_line import Line

BEFORE, BETWEEN, REGISTRATION, GATE, END = "before the stages", "between stages", "registration", "gate", "end"

_OPENING = re.compile(r"run (\d{8}-\d{6}-\w+): \d+ stages")


def stages(line: Line) -> list[str]:
    """The stages, each after those that it needs."""
    from flows.workspace.graph import load_graph

    return [stage.name for stage in load_graph(line.source).stages]


class Look:
    """Follows the next run that begins in the workspace of the line."""

    def __init__(self, line: Line, order: list[str]) -> None:
        self._line, self._order = line, [BEFORE, *order, REGISTRATION, GATE, END]
        self._known = {record["id"] for record in line.inner_runs()}

    def record(self) -> dict[str, Any] | None:
        """What the run has written down so far."""
        new = [record for record in self._line.inner_runs() if record["id"] not in self._known]
        return new[0] if new else None

    def begun(self) -> bool:
        """Whether it has the workspace: the reaper has been at work then."""
        return self.record() is not None

    def now(self) -> list[str]:
        """What goes on; of stages two may run side by side."""
        record = self.record()
        said = self._said(record)
        if record is None or said is None:
            return [BEFORE]
        if record["state"] != "running" or "\ngate: " in said:
            return [END]
        if "\nneedledrop version " in said:
            return [GATE]
        if "\nvideo to music, " in said:
            return [REGISTRATION]
        started = re.findall(r"^ *(\S+) > ", said, re.MULTILINE)
        ended = {stage["name"] for stage in record["stages"]}
        return [name for name in started if name not in ended] or [BETWEEN]

    def reached(self, moment: str) -> bool:
        """Whether the run is there, or past it."""
        if moment == BEFORE:
            return bool(self._line.engines())
        now, record = self.now(), self.record()
        ended = {stage["name"] for stage in record["stages"]} if record else set()
        past = all(self._order.index(one) > self._order.index(moment) for one in now if one != BETWEEN)
        return moment in now or moment in ended or (now != [BETWEEN] and past)

    def _said(self, record: dict[str, Any] | None) -> str | None:
        """What the run has said since its opening."""
        if record is None:
            return None
        text = self._line.log.read_text(errors="replace")
        found = [match for match in _OPENING.finditer(text) if match[1] == record["id"]]
        return text[found[-1].start() :] if found else None
