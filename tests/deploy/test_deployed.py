"""The parts of deployed flows: overrides, what counts as unchanged, and when a corpus has come to rest."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.deploy.here import Here, newer_rows
from flows.deploy.inputs import corpus_digest, inputs_digest, override
from flows.deploy.watch import wait_until_still
from flows.environment import Environment
from flows.errors import Refusal
from flows.ledger.attempts import attempt
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace whose corpus is a folder with one file."""
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"1")
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    tree["corpus"] = {
        "kind": "folder", "source": "listing.json", "root": str(folder), "annotations": None, "seed_tags": None,
        "seed": 1, "seed_clips": 240, "clip_s": 8.0, "workers": 1, "licence": "unknown",
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    return Workspace(tmp_path)


def test_overrides_change_what_they_name(workspace: Workspace) -> None:
    override(workspace, {"training.steps": 55, "encoder.loss.terms": {"fused-music": 1.0, "video-music": 0.0,
                                                                     "text-music": 0.0, "video-text": 0.0}})  # fmt: skip
    tree = yaml.safe_load((workspace.root / "params.yaml").read_text())
    assert tree["training"]["steps"] == 55
    assert tree["encoder"]["loss"]["terms"]["video-music"] == 0.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training.stepps": 5}, "params.yaml has no 'training.stepps'"),
        ({"trainning.steps": 5}, "no 'trainning.steps'"),
        ({"training.steps.x": 5}, "no 'training.steps.x'"),
        ({"": 5}, "no ''"),
        ({"training.steps": -5}, "training.steps"),
        ({"training.steps": 55, "encoder.heads": "many"}, "encoder.heads"),
    ],
)
def test_a_wrong_override_is_named_and_nothing_is_changed(
    workspace: Workspace, changes: dict[str, Any], words: str
) -> None:
    before = (workspace.root / "params.yaml").read_bytes()
    with pytest.raises(Refusal, match=words):
        override(workspace, changes)
    assert (workspace.root / "params.yaml").read_bytes() == before


def test_a_new_file_and_another_param_are_changes_and_another_look_is_none(workspace: Workspace) -> None:
    first = inputs_digest(workspace)
    assert inputs_digest(workspace) == first
    (workspace.root / "media" / "b.mp4").write_bytes(b"2")
    second = inputs_digest(workspace)
    override(workspace, {"training.steps": 55})
    assert len({first, second, inputs_digest(workspace)}) == 3
    assert corpus_digest(workspace) == corpus_digest(workspace)


def looks(*seen: str) -> Callable[[], str]:
    rest = iter(seen)
    return lambda: next(rest)


def test_a_corpus_has_settled_when_it_stays_the_same_for_long_enough() -> None:
    # Looked at every 10 s for 40 s of rest: b at 10, 20 s is new; c at 30 s begins the rest that ends at 70 s.
    waited: list[float] = []
    assert wait_until_still(looks("b", "b", "c", "c", "c", "c", "c"), "a", 40, 1000, waited.append) == "c"
    assert sum(waited) == 70


def test_a_corpus_that_never_rests_is_given_up() -> None:
    assert wait_until_still(looks(*map(str, range(100))), "a", 40, 200, lambda _: None) is None


def test_rows_come_from_the_last_finished_run_unless_this_workspace_is_newer(tmp_path: Path) -> None:
    environment = Environment.model_validate({"ledger_url": f"sqlite:///{tmp_path}/ledger.db"})
    one, two = Workspace(tmp_path / "pipeline-1"), Workspace(tmp_path / "pipeline-2")

    def run(workspace: Workspace, name: str, state: str = "finished") -> Path | None:
        """The rows that this run would begin with."""
        with attempt(Platform(workspace, environment), "needledrop-retrain", name) as this:
            this.state = state
            return newer_rows(Here(Platform(workspace, environment), this))

    assert run(one, "a") is None, "nobody has any"
    assert run(one, "b") is None, "it has them itself"
    assert run(two, "c", "crashed") == one.root, "a new workspace"
    assert run(two, "d", "crashed") is None, "what was done here since is newer"
    assert run(one, "e") is None
    assert run(two, "f") == one.root, "e ended after d"
