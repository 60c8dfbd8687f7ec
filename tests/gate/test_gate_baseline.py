"""CCA as the floor of a first champion: fitted on the workspace's own training clips, and honest about why it is not."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from components.evaluation.metrics_file import MODES
from components.increments import update_store
from components.modalities import MUSIC, Modality
from components.store import FeatureStore
from flows.errors import Refusal
from flows.gate.baseline import evaluate_cca
from flows.gate.evaluate import read_test_set
from flows.gate.sides import Side
from flows.workspace.workspace import Workspace

from .conftest import TEST, Works

if TYPE_CHECKING:  # pytest would take the name for that of a test
    from flows.gate.evaluate import TestSet


def cca(works: Works, root: Path, test: "TestSet | None" = None) -> Side | None:
    """The baseline of a workspace with the files of ``works``."""
    workspace = Workspace(root)
    return evaluate_cca(works.graph, workspace, test or read_test_set(works.graph, workspace))


def noise(folder: Path, like: FeatureStore, dims: int, **spec: Any) -> FeatureStore:
    """A store of the same clips, from another extractor."""
    draw = np.random.default_rng(1)
    shutil.rmtree(folder, ignore_errors=True)
    update_store(folder, like.spec | {"dims": dims} | spec, [(clip, clip) for clip in like.clip_ids],
                 lambda wanted: ((clip, draw.normal(size=(1, dims))) for clip in wanted), 100)  # fmt: skip
    return FeatureStore.open(folder)


@pytest.fixture
def root(works: Works, tmp_path: Path) -> Path:
    """A workspace of the test's own."""
    return Path(shutil.copytree(works.workspace.root, tmp_path / "workspace"))


def test_every_mode_is_ranked_with_the_setting_that_validation_chose(works: Works, root: Path) -> None:
    side = cca(works, root)
    assert side is not None and set(side.ranks) == set(MODES)
    assert all(len(rank) == TEST and rank.min() >= 1 for rank in side.ranks.values())
    assert side.name == "CCA" and "'video+text': {'query_ridge': " in side.facts["settings"]


def test_too_few_clips_leave_it_open(works: Works, root: Path) -> None:
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("least_train_clips: 8", "least_train_clips: 17"))
    assert cca(works, root) is None  # there are 16


def test_a_fault_of_its_own_is_no_open_question(works: Works, root: Path) -> None:
    test = read_test_set(works.graph, Workspace(root))
    known: dict[Modality, FeatureStore] = test.pool.stores
    # Music of another width than what it was fitted on: a fault in the code that put the two together.
    other = noise(root / "other", known[MUSIC], known[MUSIC].spec["dims"] + 1)
    broken = replace(test, pool=replace(test.pool, stores=known | {MUSIC: other}))
    with pytest.raises(ValueError, match="operands could not be broadcast together"):
        cca(works, root, broken)


def test_descriptions_of_another_extractor_are_not_fitted_on(works: Works, root: Path) -> None:
    test = read_test_set(works.graph, Workspace(root))
    folder = root / "data/features/annotations"
    noise(folder, FeatureStore.open(folder), 3, note="another")
    with pytest.raises(ValueError, match="features/annotations come from different text extractors"):
        cca(works, root, test)


def test_training_files_that_are_gone_are_named(works: Works, root: Path) -> None:
    test = read_test_set(works.graph, Workspace(root))
    shutil.rmtree(root / "data/features/music")
    with pytest.raises(Refusal, match=r"^CCA cannot be fitted: .*features/music/spec\.json: .*needledrop retrain"):
        cca(works, root, test)
