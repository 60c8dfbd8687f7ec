"""Versions as black boxes: ranked by their own code and extractors, whatever these are, on real media."""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.encoder.serialise import load_model
from components.evaluation.metrics_file import MODES
from components.evaluation.scorer import ModelScorer
from components.features.extractor import build_extractor
from components.features.params import FeaturesParams
from components.features.source import Source
from components.increments import update_store
from components.modalities import MODALITIES, Modality
from components.settings import read_section
from components.store import FeatureStore, spec_digest
from flows.environment import Environment
from flows.errors import Refusal
from flows.gate import evaluate as gate_evaluate
from flows.gate import ranks
from flows.gate.evaluate import evaluate, read_test_set
from flows.gate.judged import Judged, judge, needs_process
from flows.gate.report import read_report
from flows.gate.run import run_gate
from flows.gate.verdict import make_report
from flows.release.actions import retire
from flows.release.own_code import OwnCode
from flows.release.table import Release
from flows.release.verified import verify
from tests.ingest.media_look_alike import write_clip

from .conftest import TEST, Works, todays_code
from .gate_tables import MADE, quick

EARLIER = Path(__file__).with_name("earlier_version.tar.xz")
OTHER = {"segment_s": 1.0, "mel_bands": 20, "dims": 128, "embedding_dims": 64}
"""Settings of the extractors and of the model by which another workspace made its version."""


def edit(params: Path, **values: object) -> None:
    text = params.read_text().splitlines()
    for name, value in values.items():
        at = next(at for at, line in enumerate(text) if line.strip().startswith(f"{name}:"))
        text[at] = f"{text[at].partition(':')[0]}: {value}"
    params.write_text("\n".join(text) + "\n")


@pytest.fixture(scope="module")
def filmed(clean: Works) -> Works:
    """The test clips have media: a second each."""
    folder = clean.workspace.root / "media"
    folder.mkdir()
    for at in range(TEST):
        write_clip(folder / f"{at}.mp4", at, 1.0)
    return clean


def commented(folder: Path) -> None:
    """Code that is not ours, byte by byte, and does the same."""
    todays_code(folder)
    path = folder / "code/components/encoder/model.py"
    path.write_text(path.read_text() + "\n# The same in other words.\n")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The params.yaml of another workspace."""
    path = tmp_path_factory.mktemp("elsewhere") / "params.yaml"
    shutil.copy(Path(__file__).parents[2] / "params.yaml", path)
    edit(path, **OTHER)
    return path


def foreign(works: Works, seed: int, params: Path) -> Release:
    """Register a version whose extractors and embedding size are those of other settings."""

    def code(folder: Path) -> None:
        todays_code(folder)
        shutil.copy(params, folder / "artifacts/params.yaml")

    section = read_section(FeaturesParams, "features", params)
    specs = {m: spec_digest(build_extractor(section, m).spec()) for m in MODALITIES}
    kept = works.workspace.root / "params.yaml"
    own = kept.read_text()
    shutil.copy(params, kept)
    try:
        return works.register(seed, specs, code)
    finally:
        kept.write_text(own)


@pytest.fixture(scope="module")
def asked(filmed: Works) -> gate_evaluate.TestSet:
    return read_test_set(filmed.graph, filmed.workspace)


@contextmanager
def judging(works: Works, release: Release, test: gate_evaluate.TestSet, apart: bool) -> Iterator[Judged]:
    files = verify(works.client, works.workspace, release)
    assert needs_process(files, release, test.pool) == apart
    with OwnCode(Environment()) if apart else nullcontext() as process:
        root = works.workspace.root
        with judge(root, files, release, test.pool, test.queries.texts, 1, process) as judged:
            yield judged


def test_another_process_ranks_as_this_one_does(filmed: Works, asked: gate_evaluate.TestSet) -> None:
    here, apart = filmed.register(3), filmed.register(3, code=commented)
    loaded = load_model(filmed.folder(here.version) / "artifacts/model").model
    known = evaluate(ModelScorer(loaded), asked, "the model itself", {})
    for release, kind in ((here, "_Here"), (apart, "OwnCode")):
        with judging(filmed, release, asked, release is apart) as judged:
            assert type(judged._answers).__name__ == kind
            found = evaluate(judged, asked, kind, {})
            assert judged.time(("video", "text"), "clip-00") > 0
        for mode in MODES:
            assert found.ranks[mode].tolist() == known.ranks[mode].tolist()
            assert found.top[mode].tolist() == known.top[mode].tolist()
        assert found.coverage == known.coverage and judged.unread == {}


def test_a_version_of_other_extractors_and_another_size_is_an_ordinary_challenger(
    filmed: Works, asked: gate_evaluate.TestSet, elsewhere: Path, tmp_path: Path
) -> None:
    champion = filmed.register(21)
    filmed.hail(champion.version)
    release = foreign(filmed, 22, elsewhere)
    result = run_gate(filmed.graph, filmed.platform, release.version)
    assert (result.version, result.champion) == (release.version, champion.version)
    report = read_report(Path(result.report).read_bytes(), "the report")

    # The same by hand: its extractors over the test media, its model over their features.
    section = read_section(FeaturesParams, "features", elsewhere)
    stores: dict[Modality, FeatureStore] = {}
    for modality in MODALITIES:
        extractor = build_extractor(section.model_copy(update={"workers": 1}), modality)
        sources = [
            Source(
                row["clip_id"],
                row["clip_id"],
                str(filmed.workspace.root / row["uri"]),
                row["start_s"],
                row["end_s"],
                asked.queries.texts[row["clip_id"]],
            )
            for row in asked.pool.rows
        ]
        update_store(
            tmp_path / modality, extractor.spec(), [(one.clip_id, one.key) for one in sources],
            lambda wanted, extractor=extractor, sources=sources: extractor.extract([one for one in sources if one.clip_id in wanted]),
            100,
        )  # fmt: skip
        stores[modality] = FeatureStore.open(tmp_path / modality)
    model = load_model(filmed.folder(release.version) / "artifacts/model").model
    assert model.embedding_dims != load_model(filmed.folder(champion.version) / "artifacts/model").model.embedding_dims
    known = evaluate(ModelScorer(model), replace(asked, pool=replace(asked.pool, stores=stores)), "by hand", {})
    kept = ranks.recall(filmed.client, filmed.platform, release, asked.queries)
    assert kept is not None and report.challenger.recall.keys() == known.ranks.keys()
    for mode in MODES:
        assert kept.ranks[mode].tolist() == known.ranks[mode].tolist()
        assert report.challenger.recall[mode].value == np.mean(known.ranks[mode] <= 10)
    assert [check.key for check in result.checks if check.key == "latency"], "timed beside each other"

    # They are kept for as long as what was asked is the same.
    other = replace(asked.queries, data=dict(asked.queries.data) | {"video_content": "another"})
    assert ranks.recall(filmed.client, filmed.platform, release, other) is None
    few = asked.queries.only(np.arange(TEST) > 0)
    assert ranks.recall(filmed.client, filmed.platform, release, few) is None
    (path,) = filmed.workspace.mlflow_artifacts.rglob(f"{release.run_id}/**/ranks-*.json")
    own = path.read_text()
    path.write_text(own.replace('"video": [', '"video": [1, ', 1))
    assert ranks.recall(filmed.client, filmed.platform, release, asked.queries) is None, "not what was kept"
    path.write_text(own)
    again = ranks.recall(filmed.client, filmed.platform, release, asked.queries)
    assert again is not None and again.ranks["video"].tolist() == kept.ranks["video"].tolist()


def test_a_clip_that_a_version_cannot_read_counts_as_not_found(
    filmed: Works, asked: gate_evaluate.TestSet, elsewhere: Path
) -> None:
    release = foreign(filmed, 24, elsewhere)
    lost = filmed.workspace.root / "media/4.mp4"
    kept = lost.rename(lost.with_suffix(".away"))
    try:
        with judging(filmed, release, asked, True) as judged:
            side = replace(evaluate(judged, asked, judged.name, {}), unread=judged.unread)
    finally:
        kept.rename(lost)
    assert side.ranks["video"][4] == TEST
    # Its words can be read, its music not: nobody finds it.
    assert side.ranks["text"][4] == TEST and "clip-04" not in set(side.top["text"])
    assert (np.delete(side.ranks["text"], 4) < TEST).any()
    said = make_report(asked.queries, side, None, "floors", quick(), MADE).words.found
    assert f"Version {release.version} could not read 1 of {TEST} test clips with its own extractors" in said
    assert "count as not found (first clip-04: " in said


@pytest.mark.stack
def test_a_champion_of_an_earlier_release_of_the_platform_is_an_opponent(
    filmed: Works, asked: gate_evaluate.TestSet
) -> None:
    """Its files are those that the platform of commit 40e20f7 logged, whose recommender has no methods for a judge."""
    number = len(filmed.client.search_model_versions("name = 'needledrop'")) + 1
    filmed.folder(number).mkdir(parents=True)
    with tarfile.open(EARLIER) as files:
        files.extractall(filmed.folder(number), filter="data")
    old = filmed.enter(number)
    filmed.hail(number)
    challenger = filmed.register(25)
    result = run_gate(filmed.graph, filmed.platform, challenger.version)
    report = read_report(Path(result.report).read_bytes(), "the report")
    assert result.champion == old.version and report.other is not None
    assert set(report.other.recall) == set(MODES) and report.other.facts["model"] == old.model
    assert report.data.queries == TEST


def ending(folder: Path) -> None:
    todays_code(folder)
    (folder / "code/components/encoder/model.py").write_text("import os\n\nos._exit(7)\n")


def test_a_champion_whose_code_ends_the_process_is_named_with_the_way_out(filmed: Works) -> None:
    broken = filmed.register(26, code=ending)
    filmed.hail(broken.version)
    challenger = filmed.register(27)
    with pytest.raises(Refusal) as refusal:
        run_gate(filmed.graph, filmed.platform, challenger.version)
    said = str(refusal.value)
    assert said.startswith(
        f"the champion cannot be evaluated: the code of version {broken.version} ended without an answer"
    )
    assert "exit code 7" in said and f"`needledrop retire {broken.version}`" in said
    assert filmed.release(challenger.version).state == "registered"
    retire(filmed.platform, broken.version, "Ada", "its code ends the process")
    result = run_gate(filmed.graph, filmed.platform, challenger.version)
    assert (result.champion, [check.key for check in result.checks]) == (None, ["chance"])
    with pytest.raises(Refusal, match=f"version {broken.version} was retired and stays so"):
        run_gate(filmed.graph, filmed.platform, broken.version)
