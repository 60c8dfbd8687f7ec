"""From the rows of the study to pieces of work, each named by all that decides its result."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.settings import PARAMS_FILE, read_params
from research.corpus import Corpus
from research.settings import Experiment, Row, StudySettings, Tree, merged

# What computes a result; a change in it makes every result anew.
CODE = ("encoder", "training", "evaluation")
TABLES, STORES = ("manifest", "tags", "truth"), ("video", "music", "annotations")


@dataclass(frozen=True)
class Job:
    """One fit and its evaluation.

    Attributes:
        fit: what is fitted, see ``Row.fit``.
        sections: of params.yaml: encoder, training, evaluation.
        text: the name of the train clips' text.
        clips: train clips, the first so many by id; None for all.
        parts: names of the results that a late fusion adds.
        data: digest of the files that are read.
        code: digest of what computes.
    """

    fit: str
    sections: Tree
    text: str
    clips: int | None
    parts: tuple[str, ...]
    data: str
    code: str

    @property
    def name(self) -> str:
        """The result's name: equal work has one name, in whichever tables it stands."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:20]

    @property
    def seed(self) -> int:
        """The seed of training."""
        return int(self.sections["training"]["seed"])


def plan_jobs(settings: StudySettings, corpus: Corpus, project: Path) -> dict[tuple[str, str], list[Job]]:
    """Return the jobs, one per seed, of each (experiment, row)."""
    params = read_params(project / PARAMS_FILE)
    code = _digest_of_code(project / "components")
    planned: dict[tuple[str, str], list[Job]] = {}
    for letter, experiment in settings.experiments.items():
        for row in _parts_first(experiment):
            parts = [planned[letter, name] for name in row.of]
            seeds = settings.seeds[: row.seeds]
            planned[letter, row.name] = [
                Job(
                    row.fit,
                    _sections(params, settings, row, seed),
                    row.text,
                    row.clips,
                    tuple(jobs[at].name for jobs in parts),
                    _digest_of_data(corpus, row.text),
                    code,
                )
                for at, seed in enumerate(seeds[:1] if row.fit in ("cca", "popularity", "chance") else seeds)
            ]
    return planned


def _parts_first(experiment: Experiment) -> Iterator[Row]:
    yield from sorted(experiment.rows, key=lambda row: bool(row.of))


def _sections(params: Tree, settings: StudySettings, row: Row, seed: int) -> Tree:
    tree = {name: params[name] for name in ("encoder", "training", "evaluation")}
    tree = merged(tree, settings.common)
    tree = tree if row.start == "params" else merged(tree, settings.base)
    tree = merged(merged(tree, row.change), {"evaluation": settings.evaluation})
    # One thread each: rows run side by side, and sums depend on how work is cut.
    return merged(tree, {"training": {"seed": seed, "threads": 1}, "evaluation": {"threads": 1}})


def _digest_of_data(corpus: Corpus, text: str) -> str:
    stores = [corpus.files[name] for name in STORES] + [corpus.texts[text]]
    files = [corpus.files[name] for name in TABLES] + [store / "spec.json" for store in stores]
    return _digest({f"{at}": path.read_bytes() for at, path in enumerate(files)})


def _digest_of_code(components: Path) -> str:
    files = sorted(path for name in CODE for path in (components / name).rglob("*.py"))
    return _digest({str(path.relative_to(components)): path.read_bytes() for path in files})


def name_of_music_videos(project: Path, folder: Path) -> str:
    """Return the name of the result on music videos: of the code, the settings, and the files' sizes."""
    code = sorted((project / "research").glob("music_video*"))
    contents = {path.name: path.read_bytes() for path in code}
    contents |= {path.name: str(path.stat().st_size).encode() for path in sorted(folder.glob("*"))}
    return _digest(contents | {"code": _digest_of_code(project / "components").encode()})[:20]


def _digest(contents: Mapping[str, bytes]) -> str:
    digests: dict[str, Any] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
