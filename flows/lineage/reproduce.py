"""Make a version's evaluation again, from nothing but what is recorded of it, and compare to the last bit.

By default the recorded model is evaluated again on the recorded features. With `from_scratch` every
stage runs again in a clone with an empty cache, so features, captions and the model are made anew too.
"""

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.errors import GATE_FAILED, OK, Refusal
from flows.lineage import clone as cloning
from flows.lineage import equality
from flows.lineage.naming import find, registry
from flows.lineage.recorded import Recorded, fetch, place
from flows.workspace.console import console
from flows.workspace.graph import Graph, Stage, load_graph
from flows.workspace.observe import is_outside, observe
from flows.workspace.platform import Platform
from flows.workspace.processes import Processes
from flows.workspace.workspace import Workspace


@dataclass
class Reproduced:
    """What came of it."""

    version: int
    commit: str
    from_scratch: bool
    values: int
    """Values of metrics.json that were compared."""
    first: equality.Difference | None
    """The first of them that differs."""
    ranks_equal: bool
    """Whether the ranks of single queries are the same bytes."""
    inputs: list[str]
    """Inputs of the evaluation that are not the recorded ones (only where all is made again)."""
    stages: dict[str, list[str]]
    """Each stage that ran, with its outputs that are not the recorded ones."""
    packages: list[str]
    """Packages of another version than on that day."""
    seconds: dict[str, float] = field(default_factory=dict)
    folder: str | None = None
    """The clone, where it was to be kept."""

    @property
    def equal(self) -> bool:
        """Whether every metric and every rank is the same."""
        return self.first is None and self.ranks_equal

    @property
    def code(self) -> int:
        """The exit code."""
        return OK if self.equal else GATE_FAILED

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"equal": self.equal, **asdict(self)}


def reproduce(
    platform: Platform,
    model: str,
    repository: str | None = None,
    from_scratch: bool = False,
    keep: bool = False,
) -> Reproduced:
    """Evaluate a version again in a clean clone at its commit; the workspace is only read.

    Args:
        platform: says where the registry is.
        model: a number, an alias, or MLflow's address of either.
        repository: another repository than the workspace's.
        from_scratch: make everything before the evaluation again as well.
        keep: leave the clone.

    Raises:
        Refusal: no such version, an unknown commit, missing data, or a stage failed.
    """
    began = time.monotonic()
    seconds: dict[str, float] = {}
    folder = Path(tempfile.mkdtemp(prefix="needledrop-reproduce-"))
    with _removed(folder, keep):
        with registry(platform) as client:
            found = fetch(client, find(client, platform, model), folder)
        seconds["fetch"] = time.monotonic() - began
        top, prefix = cloning.repository_of(platform.workspace.root) if repository is None else (repository, "")
        root = cloning.clean_clone(top, found.commit, folder / "clone", prefix)
        place(found, root, with_lock=not from_scratch)
        seconds["clone"] = time.monotonic() - began - sum(seconds.values())
        graph = load_graph(root)
        if found.splits is not None:
            graph.files.splits.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.splits, graph.files.splits)
        if from_scratch:
            _observe(root, found)
            _dvc(root, "repro", "--no-run-cache")
        else:
            _bring(platform.workspace, root, graph, found)
            seconds["restore"] = time.monotonic() - began - sum(seconds.values())
            # Forced: DVC would else restore the recorded result, which proves nothing.
            _dvc(root, "repro", "--single-item", "--force", "--no-commit", graph["evaluation"].name)
        seconds["run"] = time.monotonic() - began - sum(seconds.values())
        done = _compare(root, graph, found, from_scratch)
    done.seconds = {name: round(value, 1) for name, value in seconds.items()}
    done.folder = str(folder / "clone") if keep else None
    return done


@contextlib.contextmanager
def _removed(folder: Path, keep: bool) -> Iterator[None]:
    try:
        yield
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _bring(workspace: Workspace, root: Path, graph: Graph, found: Recorded) -> None:
    """Put the evaluation's inputs into the clone: the model from the registry, the rest through DVC."""
    evaluation = graph["evaluation"]
    model = str(evaluation.argument("model"))
    made = {path for stage in graph.stages if stage is not evaluation for path in stage.outputs}
    wanted = sorted((made & set(evaluation.arguments.values())) - {model})
    remote = cloning.share_cache(workspace.root, root)
    missing = cloning.restore(root, wanted, pull=remote)
    where = "the DVC cache and the remote" if remote else "the DVC cache, and no DVC remote is set"
    gone = f"{', '.join(missing)} of version {found.version} not in {where}"
    if missing and is_outside(Workspace(root)):
        raise Refusal(f"{gone}; run `needledrop pull` where they are, or make all again with --from-scratch")
    if missing:  # a rendered corpus can be made again
        console(to_stderr=True).print(f"{gone}: made again, which takes longer", markup=False, soft_wrap=True)
        _dvc(root, "repro", "--no-commit", *_writers(graph, missing))
    shutil.rmtree(root / model, ignore_errors=True)
    shutil.copytree(found.model, root / model)


def _writers(graph: Graph, paths: list[str]) -> list[str]:
    return [stage.name for stage in graph.stages if set(stage.outputs) & set(paths)]


def _observe(root: Path, found: Recorded) -> None:
    """List a corpus outside the clone; it must be the recorded one still."""
    if not is_outside(Workspace(root)):
        return
    observe(Workspace(root))
    lock = equality.read_lock(found.lock)
    locked = {dep["path"]: dep["md5"] for stage in lock["stages"].values() for dep in stage.get("deps", ())}
    for path in (path for path in locked if path.endswith(".json") and (root / path).is_file()):
        if hashlib.md5((root / path).read_bytes(), usedforsecurity=False).hexdigest() != locked[path]:
            raise Refusal(
                f"the corpus is not what it was when version {found.version} was made ({path} differs); "
                "without --from-scratch the recorded features are used"
            )


def _dvc(root: Path, *words: str) -> None:
    """Run a DVC command in the clone; what it and the stages say goes to standard error.

    Raises:
        Refusal: it failed; its last words are given.
    """
    out, tail = console(to_stderr=True), [""]

    def line(text: str) -> None:
        if text.strip():
            tail.append(text.strip())
            out.print(f"  {text}", markup=False, soft_wrap=True)

    processes = Processes(root.parent.name)
    try:
        status = processes.run([sys.executable, "-m", "dvc", *words], root, line)
    except BaseException:
        processes.stop()
        raise
    if status:
        raise Refusal(
            f"`dvc {' '.join(words)}` failed in the clone: {tail[-1]}; see its lines above, or --keep the clone"
        )


def _compare(root: Path, graph: Graph, found: Recorded, from_scratch: bool) -> Reproduced:
    from flows.workspace.provenance import environment_text

    evaluation = graph["evaluation"]
    metrics = json.loads(found.metrics.read_text(encoding="utf-8"))
    again = json.loads((root / evaluation.argument("metrics")).read_text(encoding="utf-8"))
    before, after = equality.read_lock(found.lock), equality.read_lock(root / "dvc.lock")
    ran: list[Stage] = list(graph.stages) if from_scratch else [evaluation]
    return Reproduced(
        version=found.version,
        commit=found.commit,
        from_scratch=from_scratch,
        values=equality.count_leaves(metrics),
        first=equality.first_difference(metrics, again),
        ranks_equal=found.ranks.read_bytes() == (root / evaluation.argument("ranks")).read_bytes(),
        inputs=equality.changed_entries(before, after, evaluation.name, "deps"),
        stages={stage.name: equality.changed_entries(before, after, stage.name, "outs") for stage in ran},
        packages=equality.changed_packages(found.environment.read_text(encoding="utf-8"), environment_text()),
    )


def show(done: Reproduced) -> int:
    """Print the verdict, then what may explain it; return the exit code."""
    out = console()
    how = "every stage made again" if done.from_scratch else "the recorded model on the recorded features"
    out.print(f"version {done.version} at commit {done.commit[:12]}: {how}")
    took = ", ".join(f"{name} {value:.1f} s" for name, value in done.seconds.items())
    if done.equal:
        out.print(f"[green]equal[/] to the bit: {done.values} values of metrics.json and every rank ({took})")
    elif done.first:
        out.print(f"[red]not equal[/]: {done.first.sentence()} ({took})", soft_wrap=True)
    else:
        out.print(f"[red]not equal[/]: metrics are, ranks of single queries are not ({took})")
    other = [f"{stage} ({', '.join(paths)})" for stage, paths in done.stages.items() if paths]
    if other:
        out.print(
            f"first stage with other outputs: {other[0]}; {len(other)} of {len(done.stages)} in all", soft_wrap=True
        )
    elif done.from_scratch:
        out.print(f"all outputs of {len(done.stages)} stages are the recorded bytes")
    if done.inputs:
        out.print(f"inputs of the evaluation that are not the recorded ones: {', '.join(done.inputs)}", soft_wrap=True)
    if done.packages:
        more = f" and {len(done.packages) - 5} more" if done.packages[5:] else ""
        out.print(f"packages of another version than then: {', '.join(done.packages[:5])}{more}", soft_wrap=True)
    if done.folder:
        out.print(f"the clone is in {done.folder}", soft_wrap=True)
    return done.code
