"""The reference kept with a model version, and comparing a workspace with it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.drift import World
from flows.drift import evidently
from flows.drift.compare import Finding, Outcome, compare, needed
from flows.drift.decide import Tried, decide, level_for
from flows.drift.evidently import table_of, write_corpus_report
from flows.drift.logged import champion_reference
from flows.drift.page import EVIDENTLY, PAGE, Told, write_report
from flows.drift.settings import read_settings
from flows.drift.stored import FOLDER, FORMAT, Head, Reference, read_reference, save, write_reference
from flows.environment import prepare
from flows.errors import Refusal
from flows.ledger.database import transaction
from flows.registry.tracking import EXPERIMENT, MODEL, connect
from flows.release import releases
from flows.release.mirror import CHAMPION
from flows.workspace.graph import Graph, load_graph
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from tests.flows.results import CLIPS, write_results
from tests.release.releases_of import EVIDENCE, release

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Graph]:
    """A workspace as a retrain leaves it, with a dozen clips."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("finished")
    Repo.init(str(folder), no_scm=True).close()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "components", folder / "components", ignore=shutil.ignore_patterns("__pycache__"))
    workspace = Workspace(folder)
    graph = load_graph(folder)
    write_results(graph, workspace)
    return workspace, graph


@pytest.fixture(scope="module")
def stored(finished: tuple[Workspace, Graph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace, graph = finished
    folder = tmp_path_factory.mktemp("stored") / "drift-reference"
    write_reference(graph, workspace, folder)
    return folder


def test_a_reference_is_read_as_it_was_written(stored: Path, finished: tuple[Workspace, Graph]) -> None:
    reference = read_reference(stored)
    assert len(reference.sample) == len(reference.known) == CLIPS
    assert reference.head.calibration == (), "a dozen clips fill no window"
    assert reference.head.recall == 0.7
    assert reference.sample.features["music"].shape == (CLIPS, 459)
    train = np.isnan(reference.sample.alignment)
    assert train.sum() == CLIPS / 2, "clips that the model was trained on have no alignment"
    assert (np.abs(reference.sample.alignment[~train]) <= 1.001).all()


def test_a_damaged_reference_is_refused(stored: Path, tmp_path: Path) -> None:
    for name in ("reference.json", "clips.parquet", "features.safetensors", "known.parquet"):
        folder = tmp_path / name
        shutil.copytree(stored, folder)
        (folder / name).write_bytes(b"half")
        with pytest.raises(Refusal, match="cannot be read"):
            read_reference(folder)


def test_no_new_clips_are_too_few_and_another_extractor_is_refused(
    stored: Path, finished: tuple[Workspace, Graph]
) -> None:
    workspace, graph = finished
    settings, reference = read_settings(workspace.root), read_reference(stored)
    same = compare(graph, workspace, reference, settings)
    assert (same.outcome, same.new, same.gone) == ("too few", 0, 0)
    assert "too few new clips" in same.words
    other = replace(reference, head=reference.head.model_copy(update={"extractors": {"music": "0" * 64}}))
    refused = compare(graph, workspace, other, settings)
    assert refused.outcome == "refused"
    assert "another extractor" in refused.words
    assert "needledrop retrain" in refused.words


def test_the_first_corpus_is_compared_with_itself_and_says_why(stored: Path, tmp_path: Path) -> None:
    own = read_reference(stored)
    splits = {str(clip): ("train", "train", "val", "test")[at % 4] for at, clip in enumerate(own.sample.clip_ids)}
    write_corpus_report(tmp_path / "page.html", own, splits, None)
    page = (tmp_path / "page.html").read_text()
    assert "No champion yet: the test split" in page and "Too few clips to compare: 3 with 6" in page
    write_corpus_report(tmp_path / "page.html", own, splits, (4, None))
    assert "version 4, keeps no reference that this platform can read" in (tmp_path / "page.html").read_text()


def test_corpora_are_compared_along_the_champions_components(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    monkeypatch.setattr(
        evidently, "write_evidently", lambda *all_: drawn.update(zip(("", "old", "new", "words"), all_, strict=True))
    )
    read = read_reference(stored)
    champion = replace(read, head=read.head.model_copy(update={"tagger": "a tagger"}))
    write_corpus_report(tmp_path / "page.html", champion, {}, (3, champion))
    assert drawn["old"].equals(drawn["new"]) and "version 3" in drawn["words"]
    assert {"music component 1", "video component 1", "genres", "alignment", "height (pixels)"} <= set(drawn["new"])

    head = champion.head.model_copy(
        update={"extractors": champion.head.extractors | {"video": "0" * 64}, "tagger": "other"}
    )
    write_corpus_report(tmp_path / "page.html", replace(champion, head=head), {}, (3, champion))
    assert "made by another extractor: video." in drawn["words"] and "another tagger" in drawn["words"]
    columns = set(drawn["new"])
    assert "music component 1" in columns and not columns & {"video component 1", "genres"}, "a changed one is no drift"


def test_what_only_one_side_has_is_named(tmp_path: Path) -> None:
    world = World(16, 2)
    old, new = (table_of(world.clips(3, name), {}) for name in ("old", "<new>"))
    evidently.write_evidently(tmp_path / "page.html", old.assign(**{"<b>": 1}), new, "Heading <b>.")
    page = (tmp_path / "page.html").read_text()
    assert "Not compared, as only one side has them: &lt;b&gt;." in page and "Heading &lt;b&gt;." in page


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries that Evidently imports
def test_a_tag_cannot_begin_a_script_on_the_page_of_distributions(tmp_path: Path) -> None:
    clips = World(16, 2).clips(20, "clip")
    evil = (("genres:</script><script>alert(1)</script>",), ("genres:r&b",)) * 10
    table = table_of(replace(clips, tags=evil), {})[["genres"]]
    evidently.write_evidently(tmp_path / "page.html", table, table, "Heading.")
    page = (tmp_path / "page.html").read_text()
    assert "r&b" in page and "&lt;script>alert(1)" in page and "<script>alert" not in page


def test_a_champion_of_an_earlier_release_is_said_and_one_of_this_is_read(
    stored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tmp_path)
    prepare(workspace.prefect_home)
    platform = Platform.at(workspace)
    client = connect(platform)
    assert champion_reference(platform) is None
    client.create_registered_model(MODEL)
    experiment = client.create_experiment(EXPERIMENT, workspace.mlflow_artifacts.as_uri())
    run_id, other = (client.create_run(experiment).info.run_id for _ in range(2))
    for one in (run_id, other):
        client.create_model_version(MODEL, tmp_path.as_uri(), one)
    with transaction(platform) as connection:
        releases.add(connection, replace(release(1), run_id=run_id), "register")
        releases.move(connection, 1, "registered", "evaluated", "gate", "began")
        releases.move(connection, 1, "evaluated", "passed", "gate", "passed", EVIDENCE)
        releases.move(connection, 1, "passed", "approved", "Ada", "good")
        releases.move(connection, 1, "approved", "champion", "Bob", "better")
    client.set_registered_model_alias(MODEL, CHAMPION, "2")  # by hand, and not followed
    assert champion_reference(platform) == (1, None)
    assert "version 1, the champion, has no drift-reference to compare with" in caplog.text
    client.log_artifacts(run_id, str(stored), FOLDER)
    known = champion_reference(platform)
    assert known is not None and known[1] is not None and known[1].head == read_reference(stored).head


def test_the_part_of_the_graph_ends_before_captions_and_training(finished: tuple[Workspace, Graph]) -> None:
    names = {stage.name for stage in needed(finished[1]).stages}
    assert {"corpus", "ingest", "validate", "features@video", "features@music", "tagging"} <= names
    assert not names & {"captioning", "training", "evaluation", "indexing", "features@text"}


def test_levels_follow_the_size_of_the_window() -> None:
    def tried(clips: int, level: float) -> Tried:
        return Tried(clips=clips, windows=40, alarms=2, uncorrected=5, level=level)

    rows = (tried(40, 0.05), tried(120, 0.02), tried(400, 0.04))
    settings = read_settings(ROOT)
    assert [level_for(rows, clips, settings) for clips in (20, 40, 80, 200, 900)] == [0.05, 0.05, 0.02, 0.02, 0.04]
    assert level_for((), 80, settings) == settings.false_alarms


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, float], str]:
    """Write the page of a made-up corpus with a planted shift; Evidently, which takes seconds, is left out."""
    monkeypatch.setattr("flows.drift.page.write_evidently", lambda path, *_: path.write_text("<html>"))

    def make(folder: Path, mean: float) -> str:
        world = World(16, 2)
        head = Head(
            format=FORMAT, manifest="a" * 32, clips=300, grouping="artist_id", extractors={"music": "b" * 64},
            tagger="c", components=8, calibration=(), recall=None, slices=(),
        )  # fmt: skip
        reference = Reference(head, world.clips(300, "old"), frozenset())
        window = world.clips(80, "<new>", mean=mean)
        settings = read_settings(ROOT).model_copy(update={"permutations": 199})
        decision = decide(reference.prepared(), window, settings)
        outcome: Outcome = "drift" if decision.drifted else "no drift"
        finding = Finding(outcome, "80 new <clips>", "d" * 32, 80, 0, 30, window, decision)
        save(folder / "stored", reference)
        write_report(folder, read_reference(folder / "stored"), finding, Told(3, "today", 0.05, "retrain started"))
        return (folder / PAGE).read_text()

    return make


def test_the_page_says_the_decision_first_and_stands_alone(made: Callable[[Path, float], str], tmp_path: Path) -> None:
    text = made(tmp_path, 3.0)
    assert text.index("The new media have drifted") < text.index("retrain started") < text.index("The decision")
    assert "80 new &lt;clips&gt;" in text
    assert "<clips>" not in text
    assert "://" not in text and "<script" not in text, "nothing is loaded from elsewhere"
    assert f'href="{EVIDENTLY}"' in text
    assert text.count("<svg") == 6
    assert (tmp_path / "monitor.json").is_file()
