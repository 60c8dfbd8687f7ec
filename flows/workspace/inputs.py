"""What people can edit of a stage's inputs: its entry in dvc.yaml, its params, its code and other files that no stage makes.

A run holds to them as they were when it began. DVC notes what they are when a stage ends, so an edit meanwhile would be
noted as what ran: a stage is not started after an edit of its own inputs, and what ran during one is not noted.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.settings import differences


@dataclass(frozen=True)
class Inputs:
    """Of one stage, at one moment.

    Attributes:
        entry: its command, and the paths that it reads and writes, as dvc.yaml has them.
        params: its sections of params.yaml, by name.
        files: digest by path from the root; None where there is no such file.
    """

    entry: list[Any]
    params: dict[str, Any]
    files: dict[str, str | None]

    def edits(self, now: "Inputs") -> list[str]:
        """Say what is another in `now`."""
        if self.entry != now.entry:
            return ["its entry in dvc.yaml changed"]
        names = sorted(self.params.keys() | now.params.keys())
        found = [edit for name in names for edit in differences(name, self.params.get(name), now.params.get(name))]
        return found + [f"{path} changed" for path in sorted(self.files) if self.files[path] != now.files.get(path)]


class Reader:
    """Reads inputs from the disk, each file and each set of params once."""

    def __init__(self, root: str) -> None:
        """Give paths from `root`."""
        self._root = root
        self._digests: dict[str, str | None] = {}
        self._params: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}

    def read(self, node: Any, counts: Callable[[str], bool]) -> Inputs:
        """Return the inputs of one of DVC's stages; of files, those whose path `counts`."""
        return _inputs(node, self._root, counts, self._digest, self.params)

    def params(self, dep: Any) -> dict[str, Any]:
        """Return the sections of params.yaml that one of DVC's dependencies names, by name."""
        key = (dep.fs_path, tuple(dep.params))
        if key not in self._params:
            self._params[key] = dep.read_params()
        return self._params[key]

    def _digest(self, dep: Any) -> str | None:
        if dep.fs_path not in self._digests:
            self._digests[dep.fs_path] = dep.get_hash().value if dep.exists else None
        return self._digests[dep.fs_path]


def noted_inputs(node: Any, root: str, counts: Callable[[str], bool]) -> Inputs:
    """Return the inputs as DVC is about to note them of a stage that has run."""
    return _inputs(node, root, counts, lambda dep: dep.hash_info.value, lambda dep: dep.hash_info.value)


def _inputs(
    node: Any, root: str, counts: Callable[[str], bool], digest: Callable[[Any], str | None], params: Callable[[Any], dict[str, Any]]
) -> Inputs:  # fmt: skip
    files = {os.path.relpath(dep.fs_path, root): dep for dep in node.deps if not hasattr(dep, "params")}
    outputs = [os.path.relpath(out.fs_path, root) for out in node.outs]
    sections = [section for dep in node.deps if hasattr(dep, "params") for section in params(dep).items()]
    return Inputs(
        entry=[node.cmd, sorted(files), sorted(outputs)],
        params=dict(sections),
        files={path: digest(dep) for path, dep in files.items() if counts(path)},
    )
