"""The graph, asked of DVC: stages, their order, which of them would run and why.

`dvc.yaml` is the only place where the graph is written; one load of DVC's own index answers
everything here, in process.
"""

import itertools
import os
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from components.settings import conflict, differences
from flows.errors import BUSY, USAGE, Refusal
from flows.workspace.files import Files
from flows.workspace.inputs import Inputs, Reader
from flows.workspace.workspace import LOCK_FILE

_SETTLE = "choose between the two sides and take the marks out"
_PROJECT = {
    "dvc.yaml": _SETTLE,
    # What either side says of a stage whose files differ is found out and run again.
    LOCK_FILE: f"`git checkout --ours {LOCK_FILE}` or `--theirs` takes one side, then `needledrop retrain` brings it up to date",
    ".dvc/config": _SETTLE,
}

ALWAYS: Final = "always runs (always_changed in dvc.yaml)"
"""Of a stage that is never up to date."""
NOT_CACHED: Final = "is not in DVC's cache"
"""How the reason of an output ends that is as it was written, and only has no copy."""


@dataclass(frozen=True)
class Stage:
    """One stage of `dvc.yaml`."""

    name: str
    """DVC's address: `ingest`, `features@video`."""
    description: str
    """Its `desc:`, or nothing."""
    arguments: dict[str, str]
    """`--name value` pairs of its command: where its files are."""
    outputs: tuple[str, ...]
    """Paths it writes, from the project's root."""
    parents: tuple[str, ...]
    """Stages whose outputs it reads."""
    reasons: tuple[str, ...]
    """Why its own state asks for a run, in words; empty when nothing changed."""
    inputs: Inputs
    """What people can edit of what it reads, as it is now."""

    def argument(self, name: str) -> Path:
        """The path given as `--name`.

        Raises:
            Refusal: the stage's command has no such argument.
        """
        if name not in self.arguments:
            raise Refusal(f"dvc.yaml: the command of stage '{self.name}' has no --{name}")
        return Path(self.arguments[name])


@dataclass(frozen=True)
class Graph:
    """All stages, each after its parents; ties in the order of `dvc.yaml`."""

    root: Path
    """The folder of `dvc.yaml`."""
    stages: tuple[Stage, ...]

    @cached_property
    def files(self) -> Files:
        """The files that the stages write, by name."""
        return Files(lambda stage, argument: self.root / self[stage].argument(argument))

    def relative(self, path: Path) -> str:
        """A path as dvc.yaml and dvc.lock have it: from the root."""
        return path.relative_to(self.root).as_posix()

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a stage `name`."""
        return name in self._by_name

    def __getitem__(self, name: str) -> Stage:
        """Return stage `name`.

        Raises:
            Refusal: there is none.
        """
        if name not in self._by_name:
            raise Refusal(f"dvc.yaml: no stage '{name}'")
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Stage]:
        return {stage.name: stage for stage in self.stages}

    @cached_property
    def pending(self) -> dict[str, tuple[str, ...]]:
        """Stages that must be given to DVC, with the reasons: their own, and parents that run first.

        DVC may still find that a stage whose parents ran has nothing to do.
        """
        pending: dict[str, tuple[str, ...]] = {}
        for stage in self.stages:
            first = [parent for parent in stage.parents if parent in pending]
            reasons = stage.reasons + ((f"after {', '.join(first)}",) if first else ())
            if reasons:
                pending[stage.name] = reasons
        return pending


def load_graph(root: Path) -> Graph:
    """Read the graph of `root/dvc.yaml` and the state of every stage.

    Raises:
        Refusal: git has left a file of the project in conflict; DVC cannot read the project, with its own words; or another
            DVC command is busy.
    """
    check_settled(root)
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo, repo.lock:
            return _read(repo, root)
    except LockError:
        raise Refusal("busy: a dvc command holds this workspace; wait for it to end", BUSY) from None
    except DvcException as error:
        raise Refusal(f"dvc: {_sentence(error)}") from None


def check_settled(root: Path) -> None:
    """Make sure that git has left no file in conflict that DVC reads first.

    Raises:
        Refusal: it has; the message names file, line and the next step.
    """
    for name, step in _PROJECT.items():
        path = root / name
        if path.is_file() and (where := conflict(path.read_text(encoding="utf-8", errors="replace"))):
            raise Refusal(f"{name}: {where}: {step}", USAGE)


def _read(repo: Any, root: Path) -> Graph:
    import networkx as nx  # type: ignore[import-untyped]
    from dvc.scm import NoSCM

    nodes = [stage for stage in repo.index.stages if stage.cmd]
    _check_code(nodes, root)
    if not isinstance(repo.scm, NoSCM):
        _check_links(nodes, root)
    # DVC's own addresses and file names depend on the current folder; ours are from the root.
    names = {stage: _address(stage, root) for stage in nodes}
    rank = {stage: number for number, stage in enumerate(nodes)}
    made = [f"{os.path.relpath(out.fs_path, root)}/" for node in nodes for out in node.outs]
    edges = repo.index.graph.subgraph(nodes).reverse()  # DVC points from a stage to what it needs
    reader = Reader(str(root))
    stages: list[Stage] = []
    unsettled: set[Any] = set()
    for node in nx.lexicographical_topological_sort(edges, key=rank.__getitem__):
        parents = sorted(edges.predecessors(node), key=rank.__getitem__)
        ahead = {out.fs_path for parent in parents if parent in unsettled for out in parent.outs}
        reasons = tuple(_reasons(node, ahead, root, reader))
        if reasons or ahead:
            unsettled.add(node)
        stages.append(
            Stage(
                name=names[node],
                description=" ".join((node.desc or "").split()),
                arguments=_arguments(node.cmd),
                outputs=tuple(os.path.relpath(out.fs_path, root) for out in node.outs),
                parents=tuple(names[parent] for parent in parents),
                reasons=reasons,
                inputs=reader.read(node, lambda path: not any(_overlap(f"{path}/", out) for out in made)),
            )
        )
    return Graph(root, tuple(stages))


def _check_code(nodes: list[Any], root: Path) -> None:
    """Refuse a folder that has dvc.yaml without the code that it names, which the wheel does not replace."""
    for dep in (dep for node in nodes for dep in node.deps if not hasattr(dep, "params")):
        path = os.path.relpath(dep.fs_path, root)
        if path.startswith("components/") and not Path(dep.fs_path).exists():
            raise Refusal(
                f"dvc.yaml names {path}, which is not in {root}: a workspace is a clone of the project", USAGE
            )


def _check_links(nodes: list[Any], root: Path) -> None:
    """Refuse outputs behind a link that leads out of the repository, which DVC does only after the stage has run."""
    for out in (out for node in nodes for out in node.outs):
        for folder in Path(out.fs_path).parents:
            if folder == root:
                break
            if folder.is_symlink() and not folder.resolve().is_relative_to(root):
                name = folder.relative_to(root)
                raise Refusal(
                    f"{name} is a link to {folder.resolve()}, and DVC keeps nothing outside of the git repository: make {name} a "
                    "folder (a mount is one); `dvc cache dir --local DIR` puts DVC's cache elsewhere",
                    USAGE,
                )


def _overlap(path: str, other: str) -> bool:
    """Tell whether one of two paths, each with a slash at its end, is or holds the other."""
    return path.startswith(other) or other.startswith(path)


def _address(node: Any, root: Path) -> str:
    file = os.path.relpath(node.path, root)
    return str(node.name) if file == "dvc.yaml" else f"{file}:{node.name}"


def _reasons(node: Any, ahead: set[str], root: Path, reader: Reader) -> list[str]:
    """Say why `node` would run; files in `ahead` will be written first, so their state says nothing."""
    from dvc.fs import localfs

    if not any(item.hash_info for item in (*node.deps, *node.outs)):
        return ["has never run"]
    reasons = []
    if node.changed_stage():
        reasons.append("its command changed in dvc.yaml")
    if node.always_changed:
        reasons.append(ALWAYS)
    for dep in node.deps:
        if hasattr(dep, "params"):
            reasons += _param_reasons(dep, reader)
        elif not any(localfs.overlaps(dep.fs_path, path) for path in ahead):
            reasons += [_dep_reason(os.path.relpath(dep.fs_path, root), state) for state in dep.status().values()]
    for out in node.outs:
        reasons += [_out_reason(os.path.relpath(out.fs_path, root), state) for state in out.status().values()]
    return reasons


def _dep_reason(path: str, state: str) -> str:
    return {"deleted": f"{path} is missing", "new": f"{path} is a new dependency"}.get(state, f"{path} changed")


def _out_reason(path: str, state: str) -> str:
    words = {
        "deleted": f"output {path} is missing",
        "new": f"output {path} is new",
        "not in cache": f"output {path} {NOT_CACHED}",
    }
    return words.get(state, f"output {path} was changed after the stage wrote it")


def _param_reasons(dep: Any, reader: Reader) -> list[str]:
    """Name each changed key with its old and new value."""
    status: dict[str, Any] = dep.status()
    changed = status.get(str(dep))
    if isinstance(changed, str):  # the whole file
        return [_dep_reason(str(dep), changed)]
    before = dep.hash_info.value or {} if dep.hash_info else {}
    now = reader.params(dep) if changed else {}
    return [edit for section in changed or {} for edit in differences(section, before.get(section), now.get(section))]


def _arguments(command: str | list[str]) -> dict[str, str]:
    words = shlex.split(command if isinstance(command, str) else " ".join(command))
    return {
        word.removeprefix("--"): value
        for word, value in itertools.pairwise(words)
        if word.startswith("--") and not value.startswith("--")
    }


def _sentence(error: BaseException) -> str:
    parts = [str(error)]
    cause = error.__cause__
    while cause is not None and len(parts) < 3:
        parts.append(str(cause))
        cause = cause.__cause__
    return " ".join(": ".join(part for part in parts if part).split())
