"""Two runs on one page, from what their evaluations logged."""

import shutil
from pathlib import Path

import pytest

from components import tables
from components.evaluation.metrics_file import write_metrics
from components.evaluation.retrieval import RANKS
from flows.errors import Refusal
from flows.gate.compare import compare
from flows.registry.tracking import EXPERIMENT, MODEL
from flows.workspace.workspace import Workspace
from tests.evaluation.made_metrics import made_metrics

from .conftest import ROOT, TEST, Works


@pytest.fixture(scope="module")
def shelf(works: Works, tmp_path_factory: pytest.TempPathFactory) -> Works:
    """The workspace with a registry of its own, which holds no version."""
    from dvc.repo import Repo

    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "NEEDLEDROP_LEDGER_URL"):
            patch.delenv(name, raising=False)
        root = tmp_path_factory.mktemp("compared") / "workspace"
        shutil.copytree(works.workspace.root, root)
        (root / "data/manifest.parquet").unlink()  # the workspace is of other data: artists are not known
        Repo.init(str(root), no_scm=True).close()
        (root / "components").symlink_to(ROOT / "components")
        made = Works(Workspace(root), works.graph, works.specs)
        made.client.create_registered_model(MODEL)
        made.client.create_experiment(EXPERIMENT, made.workspace.mlflow_artifacts.as_uri())
        return made


def log_run(works: Works, folder: Path, hits: int, damage: tuple[str, str] = ("", "")) -> str:
    """A run in which so many of the queries are answered first, the others eleventh; return its id."""
    rows = [
        {"level": "track", "direction": "video_to_music", "mode": mode, "clip_id": f"clip-{at:02d}",
         "rank": 1 if at < hits else 11, "pool": TEST, "pool_number": 0, "positive_score": 0.5, "top_clip_id": "clip-00"}
        for mode in ("video", "text", "video+text") for at in range(TEST)
    ]  # fmt: skip
    tables.write_rows(folder / "evaluation/ranks.parquet", rows, RANKS)
    path = folder / "evaluation/metrics.json"
    write_metrics(path, made_metrics(TEST))
    path.write_text(path.read_text().replace(*damage))
    client = works.client
    run = client.create_run(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    client.log_artifacts(run.info.run_id, str(folder))
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def test_the_difference_is_that_of_the_logged_ranks(shelf: Works, tmp_path: Path) -> None:
    ours, theirs = log_run(shelf, tmp_path / "a", 30), log_run(shelf, tmp_path / "b", 10)
    made = compare(shelf.platform, ours, theirs, tmp_path / "page.html")
    assert made.modes["video+text"].value == pytest.approx(20 / TEST)
    assert Path(made.page).is_file() and Path(made.report).is_file()


def test_metrics_of_another_version_are_named_with_their_key(shelf: Works, tmp_path: Path) -> None:
    ours = log_run(shelf, tmp_path / "a", 30)
    older = log_run(shelf, tmp_path / "b", 30, ('"hubness"', '"hubs"'))
    with pytest.raises(Refusal, match=rf"run {older[:8]}: .* evaluation/metrics\.json: hubness is missing") as refusal:
        compare(shelf.platform, ours, older, None)
    assert "\n" not in str(refusal.value)
