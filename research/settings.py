"""study.yaml: which rows are measured, and what each changes."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from components.settings import Section

FILE = Path(__file__).with_name("study.yaml")

Tree = dict[str, Any]


class Row(Section):
    """One line of a table: how it is fitted, and what it changes."""

    name: str
    """What the tables call it; names are unique within an experiment."""
    fit: Literal["trimodal", "cca", "popularity", "chance", "late-fusion"]
    """What is fitted."""
    start: Literal["base", "params"] = "base"
    """What the changes apply to: the study's base, or params.yaml as it stands."""
    change: Tree = Field(default_factory=dict)
    """Changes to sections encoder and training."""
    text: str = "analogy"
    """Which of ``texts`` the train clips are captioned with."""
    clips: int | None = Field(default=None, ge=16)
    """Train clips, the first so many in order of their ids; null takes all."""
    seeds: int | None = Field(default=None, ge=1)
    """How many of the seeds; null takes all."""
    of: tuple[str, ...] = ()
    """For late fusion: the rows of the same experiment whose scores are added."""

    @model_validator(mode="after")
    def _late_fusion_has_parts(self) -> Self:
        if (self.fit == "late-fusion") != (len(self.of) == 2):
            raise ValueError("late-fusion, and only it, needs two names under 'of'")
        return self


class Experiment(Section):
    """A table of the study."""

    title: str
    """Its heading."""
    rows: tuple[Row, ...] = Field(min_length=1)
    """Its lines."""
    axis: str = ""
    """What the rows' names count, where they are numbers: the table is drawn as a curve over it."""
    remark: str = ""
    """What a person found out beyond the figures; stands under the table."""

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [row.name for row in self.rows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rows are called {name!r}")
        for row in self.rows:
            for part in row.of:
                if part not in names:
                    raise ValueError(f"row {row.name!r}: no row is called {part!r}")
        return self


class Claim(Section):
    """A sentence that the study tests."""

    says: str
    """What is claimed."""
    experiment: str
    """The table it is about."""
    row: str
    """The row that is claimed to be better."""
    against: str
    """The row it is compared with, or ``oracle``."""
    mode: Literal["video", "text", "video+text"]
    """The query mode whose R@10 counts."""
    ratio: float | None = Field(default=None, gt=0)
    """Least share of the other's R@10; null: the paired difference's interval must lie above 0."""

    @model_validator(mode="after")
    def _oracle_needs_a_share(self) -> Self:
        if self.against == "oracle" and self.ratio is None:
            raise ValueError(f"claim {self.says!r}: nothing lies above the oracle; give a ratio")
        return self


class StudySettings(Section):
    """The whole of study.yaml."""

    corpus: Tree
    """Changes to params.yaml that make the study's corpus."""
    evaluation: Tree
    """Changes to section evaluation."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds of training."""
    processes: int = Field(ge=1)
    """Rows measured at once, each with one thread."""
    texts: dict[str, Tree]
    """Captioning sections by name; ``quality`` is that of params.yaml, and {} is the whole section of params.yaml."""
    common: Tree
    """Changes to params.yaml that hold for every row: what this size of corpus asks for."""
    base: Tree
    """Changes besides, for the rows that start from the paper's form."""
    experiments: dict[str, Experiment]
    """Tables by letter."""
    claims: tuple[Claim, ...]
    """What is tested; the page says of each whether it held."""

    @model_validator(mode="after")
    def _texts_exist(self) -> Self:
        for letter, experiment in self.experiments.items():
            for row in experiment.rows:
                if row.text not in self.texts:
                    raise ValueError(f"experiment {letter}, row {row.name!r}: no text is called {row.text!r}")
        for claim in self.claims:
            rows = {row.name for row in self.experiments[claim.experiment].rows} | {"oracle"}
            for name in (claim.row, claim.against):
                if name not in rows:
                    raise ValueError(f"claim {claim.says!r}: experiment {claim.experiment} has no row {name!r}")
        return self


def read_settings(path: Path = FILE) -> StudySettings:
    """Read and check a study file.

    Raises:
        ValueError: one line that names the file and the key.
    """
    try:
        return StudySettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def merged(tree: Tree, change: Tree) -> Tree:
    """Return ``tree`` with ``change`` laid over it; a mapping with another ``kind`` replaces what is there."""
    out = dict(tree)
    for key, value in change.items():
        old = out.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("kind", old.get("kind")) == old.get("kind"):
            out[key] = merged(old, value)
        else:
            out[key] = value
    return out
