"""The study's own corpus: a second workspace, whose stages DVC runs and keeps in the same cache."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from components.settings import PARAMS_FILE, read_params
from flows.errors import Refusal
from flows.workspace.graph import load_graph
from flows.workspace.processes import Processes
from flows.workspace.workspace import Workspace
from research.settings import StudySettings, Tree, merged

# What a fit and its evaluation read, by the names of their arguments.
READ = ("manifest", "video", "music", "annotations", "text", "tags", "truth")


@dataclass(frozen=True)
class Corpus:
    """Where the study's files are.

    Attributes:
        files: what a fit and its evaluation read, by the names of the stages' arguments.
        texts: feature stores of the captions, by the name of the text.
    """

    files: dict[str, Path]
    texts: dict[str, Path]


def prepare(workspace: Workspace, settings: StudySettings, processes: Processes, say: Callable[[str], None]) -> Corpus:
    """Render, ingest, tag, caption in every way, and compute features; what exists already is kept.

    Raises:
        Refusal: a stage failed; its last lines are told.
    """
    root = workspace.state / "study" / "workspace"
    _copy_project(workspace.root, root)
    params = merged(read_params(workspace.root / PARAMS_FILE), settings.corpus)
    (root / PARAMS_FILE).write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    graph = load_graph(root)
    measuring = graph["evaluation"]
    fitting = [graph[name] for name in measuring.parents if "checkpoints" in graph[name].arguments]
    targets = {parent for stage in (measuring, *fitting) for parent in stage.parents} - {
        stage.name for stage in fitting
    }
    files = {name: root / measuring.argument(name) for name in READ}
    captions = [root / graph["captioning"].argument(name) for name in ("captions", "completions")]
    texts = {}
    for name, section in settings.texts.items():
        captioned = params | {"captioning": _captioning(params["captioning"], section)}
        (root / PARAMS_FILE).write_text(yaml.safe_dump(captioned, sort_keys=False), encoding="utf-8")
        say(f"corpus with captions of kind {captioned['captioning']['kind']}")
        # Each kind finds its own earlier captions, not the last kind's: a language model's take long to make.
        kept = root / "texts" / name
        kept.mkdir(parents=True, exist_ok=True)
        _copy([kept / path.name for path in captions], captions)
        _repro(root, sorted(targets), processes, say)
        _copy(captions, [kept / path.name for path in captions])
        texts[name] = kept / "features"
        shutil.rmtree(texts[name], ignore_errors=True)
        shutil.copytree(files["text"], texts[name])
    return Corpus(files, texts)


def _copy(sources: Sequence[Path], targets: Sequence[Path]) -> None:
    for source, target in zip(sources, targets, strict=True):
        if source.is_file():
            target.unlink(missing_ok=True)  # it may be a link into DVC's cache
            shutil.copy2(source, target)


def _captioning(default: Tree, section: Tree) -> Tree:
    return section | {"quality": default["quality"]} if section else default


def _copy_project(source: Path, root: Path) -> None:
    """Bring code and graph up to date; DVC compares content, so an equal copy changes nothing."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy2(source / name, root / name)
    shutil.rmtree(root / "components", ignore_errors=True)
    shutil.copytree(source / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    if not (root / ".dvc").is_dir():
        dvc = [sys.executable, "-m", "dvc"]
        subprocess.run([*dvc, "init", "--quiet", "--no-scm"], cwd=root, check=True)
        subprocess.run([*dvc, "cache", "dir", "--quiet", str(source / ".dvc" / "cache")], cwd=root, check=True)


def _repro(root: Path, targets: Sequence[str], processes: Processes, say: Callable[[str], None]) -> None:
    tail: list[str] = []

    def line(text: str) -> None:
        if text.strip():
            tail[:] = [*tail, text.rstrip()][-12:]
            say(text.rstrip())

    status = processes.run([sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *targets], root, line)
    if status:
        last = "".join(f"\n    {text}" for text in tail)
        raise Refusal(f"the study's corpus could not be made (dvc repro ended with {status}); its last lines:{last}")
