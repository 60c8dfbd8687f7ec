"""Whether two results are the same, to the last bit; and where they first are not."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Lock = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """The first place at which two results differ."""

    name: str
    recorded: Any
    again: Any

    def sentence(self) -> str:
        """As a person would say it."""
        return f"{self.name} was {self.recorded!r} and is {self.again!r}"


def first_difference(recorded: Any, again: Any, name: str = "") -> Difference | None:
    """Return the first leaf, in the order of `recorded`, that is not the very same value.

    Numbers are compared bit by bit (0.0 is not -0.0, 1 is not 1.0); NaN equals NaN. A key or an item
    that only one of the two has is a difference.
    """
    if isinstance(recorded, dict) and isinstance(again, dict):
        for key in [*recorded, *(key for key in again if key not in recorded)]:
            below = f"{name}.{key}" if name else str(key)
            if key not in recorded or key not in again:
                return Difference(below, recorded.get(key, "absent"), again.get(key, "absent"))
            if found := first_difference(recorded[key], again[key], below):
                return found
        return None
    if isinstance(recorded, list) and isinstance(again, list) and len(recorded) == len(again):
        pairs = enumerate(zip(recorded, again, strict=True))
        return next((d for at, (one, two) in pairs if (d := first_difference(one, two, f"{name}[{at}]"))), None)
    return None if _same(recorded, again) else Difference(name, recorded, again)


def count_leaves(value: Any) -> int:
    """How many values `first_difference` compares in `value`."""
    if isinstance(value, dict | list):
        return sum(map(count_leaves, value.values() if isinstance(value, dict) else value))
    return 1


def changed_packages(recorded: str, now: str) -> list[str]:
    """Say which packages have another version than in a list of `name==version` lines; bits may depend on them."""
    before, after = dict(_packages(recorded)), dict(_packages(now))
    return [
        f"{name} {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def read_lock(path: Path) -> Lock:
    """Read a dvc.lock."""
    lock: Lock = yaml.safe_load(path.read_text(encoding="utf-8"))
    return lock


def changed_entries(recorded: Lock, again: Lock, stage: str, kind: str) -> list[str]:
    """Return the paths of a stage's `deps` or `outs` whose digests differ between two locks."""
    before, after = (
        {item["path"]: item["md5"] for item in lock["stages"].get(stage, {}).get(kind, ())}
        for lock in (recorded, again)
    )
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _same(one: Any, two: Any) -> bool:
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return json.dumps(one) == json.dumps(two) or (math.isnan(one) and math.isnan(two))
    return bool(one == two)


def _packages(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, same, version = line.partition("==")
        if same:
            yield name.lower(), version
