"""The stage on a small corpus in feature space: pool, levels, directions, files, plots."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from components import tables
from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.encoder.serialise import LoadedModel, save_model
from components.evaluation.__main__ import main
from components.evaluation.params import EvaluationSection
from components.evaluation.pool import choose_pool
from components.evaluation.retrieval import RANKS
from components.evaluation.run import evaluate
from components.evaluation.segments import OneSegment, middle_segments, segments_at
from components.increments import update_store
from components.modalities import MODALITIES, MUSIC, VIDEO
from components.settings import ParamsError, parse_section
from components.store import FeatureStore
from components.training.run import HISTORY
from tests.evaluation.planted import SECTION, section
from tests.training.corpus_look_alike import PARAMS, write_corpus

ROOT = Path(__file__).parents[2]


def open_stores(root: Path) -> tuple[dict[Any, FeatureStore], FeatureStore]:
    stores: dict[Any, FeatureStore] = {m: FeatureStore.open(root / "features" / m) for m in MODALITIES}
    return stores, FeatureStore.open(root / "features/annotations")


def untrained(stores: dict[Any, FeatureStore]) -> LoadedModel:
    torch.manual_seed(0)
    model = TrimodalModel(
        EncoderSection.model_validate(PARAMS["encoder"]), {m: stores[m].spec["dims"] for m in MODALITIES}
    )
    return LoadedModel(model.eval(), "d" * 64, {m: stores[m].digest for m in MODALITIES})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("corpus")
    manifest = write_corpus(root)
    stores, _ = open_stores(root)
    (root / "model").mkdir()
    loaded = untrained(stores)
    save_model(root / "model", loaded.model, loaded.features)
    history = [{"step": 10 * at, "name": name, "value": 1.0 / (at + 1)} for at in range(4)
               for name in ("loss", "temperature", "val/video/R@10", "val/video+text/R@10")]  # fmt: skip
    tables.write_rows(root / "history.parquet", history, HISTORY, sort_by=("step", "name"))
    factors = {"mood": {"type": "categorical", "cardinality": 4, "video_epsilon": 0.2, "text_epsilon": 0.4}}
    moods = [{"video_id": row["video_id"], "music_mood": at % 4, "video_mood": at % 4, "text_mood": (at + at // 9) % 4}
             for at, row in enumerate(manifest)]  # fmt: skip
    table = pa.Table.from_pylist(moods).replace_schema_metadata({b"world": json.dumps({"factors": factors})})
    tables.write_table(root / "truth.parquet", table)
    return root, manifest


def words(root: Path, out: Path, cwd: Path) -> list[str]:
    """The arguments of the stage, whose params lie in ``cwd``."""
    (cwd / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"evaluation": SECTION}))
    paths = {
        "manifest": root / "manifest.parquet", "video": root / "features/video", "music": root / "features/music",
        "text": root / "features/text", "annotations": root / "features/annotations", "tags": root / "tags.parquet", "model": root / "model",
        "history": root / "history.parquet", "truth": root / "truth.parquet", "metrics": out / "metrics.json",
        "ranks": out / "ranks.parquet", "plots": out / "plots",
    }  # fmt: skip
    return [str(word) for name, path in paths.items() for word in (f"--{name}", path)]


def stage(root: Path, out: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own."""
    command = [sys.executable, "-m", "components.evaluation", *words(root, out, cwd)]
    # Ours: another choice of kernels or threads for a library would be other last bits.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_stage_writes_everything_and_the_same_bytes_again(
    corpus: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = corpus
    first, second = tmp_path / "first", tmp_path / "second"
    done = stage(root, first, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pool 16 clips (text: annotation), chance R@10 0.625" in done.stdout
    # Here, where much else has run: a second process would pay for its imports again.
    monkeypatch.setattr(sys, "argv", ["evaluation", *words(root, second, tmp_path)])
    monkeypatch.chdir(tmp_path)
    main()
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    plots = ["counterfactual", "guidance", "recall_bars", "recall_curves", "slices", "training_curves"]
    assert names == ["metrics.json", *(f"plots/{name}.png" for name in plots), "ranks.parquet"]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name

    metrics = json.loads((first / "metrics.json").read_text())
    assert metrics["pool"]["size"] == metrics["pool"]["queries"] == 16
    assert metrics["pool"]["artists"] == 7
    assert metrics["pool"]["chance"]["MedR"] == 8.5
    for level in ("track", "segment"):
        for direction in ("video_to_music", "music_to_video"):
            assert list(metrics[level][direction]) == ["text", "video", "video+text"]
    assert set(metrics["track"]["video_to_music"]["video"]["R@10"]) == {"value", "low", "high"}
    assert set(metrics["oracle"]) == set(metrics["ratio_to_oracle"]) == {"video", "text", "video+text"}
    mine, limit = (
        metrics["track"]["video_to_music"]["video"]["R@10"]["value"],
        metrics["oracle"]["video"]["R@10"]["value"],
    )
    assert metrics["ratio_to_oracle"]["video"]["R@10"] == pytest.approx(mine / limit)

    rows = tables.read_rows(first / "ranks.parquet", RANKS)
    assert len(rows) == (2 * 2 * 3 + 3) * 16  # and the counterfactual, and captions with and without video
    exchanged = [row for row in rows if row["mode"] == "counterfactual"]
    assert all(row["donor_clip_id"] != row["clip_id"] for row in exchanged)
    assert np.mean([row["donor_rank"] < row["donor_rank_by_video"] for row in exchanged]) == pytest.approx(
        metrics["counterfactual"]["rises"]["value"]
    )
    assert set(metrics["counterfactual"]["oracle"]) == {"own", "donor"}
    assert [row["weight"] for row in metrics["guidance"]] == SECTION["guidance"]
    assert {row["by"] for row in metrics["slices"]} == {"genre", "mood", "length", "text"}
    assert set(metrics["graded"]) == set(metrics["hubness"]) == {"video", "text", "video+text", "chance"}
    chosen = [r for r in rows if (r["level"], r["direction"], r["mode"]) == ("track", "video_to_music", "video+text")]
    assert len({row["clip_id"] for row in chosen}) == 16
    recall = np.mean([row["rank"] <= 5 for row in chosen])
    assert recall == pytest.approx(metrics["track"]["video_to_music"]["video+text"]["R@5"]["value"])
    assert all((row["rank"] == 1) == (row["top_clip_id"] == row["clip_id"]) for row in chosen)


def test_no_truth_means_no_oracle(corpus: tuple[Path, list[dict[str, Any]]]) -> None:
    root, manifest = corpus
    stores, annotations = open_stores(root)
    metrics = evaluate(untrained(stores), manifest, stores, annotations, None, section()).metrics
    assert metrics.oracle == metrics.ratio_to_oracle == {}
    with pytest.raises(ValueError, match=r"truth\.parquet lacks video 'video-60' \(16 in all\)"):
        evaluate(untrained(stores), manifest, stores, annotations, ({}, {}), section())


def test_pool_is_the_annotated_test_clips_then_the_captioned_then_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = write_corpus(tmp_path / "a", annotated=0.5, without={"annotations": {60, 61}, "music": {62}})
    with caplog.at_level(logging.INFO):
        pool = choose_pool(manifest, *open_stores(tmp_path / "a"), section())
    assert (len(pool), pool.text_source, pool.ids[0]) == (13, "annotation", "clip-0063")
    assert "1 of 16 test clips lack video or music features" in caplog.text
    manifest = write_corpus(tmp_path / "b", annotated=0.0, without={"text": {60}})
    pool = choose_pool(manifest, *open_stores(tmp_path / "b"), section())
    assert (len(pool), pool.text_source) == (15, "caption")
    manifest = write_corpus(tmp_path / "c", annotated=0.0, without={"text": set(range(99))})
    stores, annotations = open_stores(tmp_path / "c")
    metrics = evaluate(untrained(stores), manifest, stores, annotations, None, section()).metrics
    assert metrics.pool.text_source == "none"
    assert list(metrics.track.video_to_music) == ["video"]


def test_too_few_test_clips_are_refused_with_the_counts(corpus: tuple[Path, list[dict[str, Any]]]) -> None:
    root, manifest = corpus
    with pytest.raises(ValueError, match=r"16 usable test clips .* asks for 100; add media or annotations"):
        choose_pool(manifest, *open_stores(root), section(least_test_clips=100))


def test_features_of_another_extractor_are_refused(corpus: tuple[Path, list[dict[str, Any]]]) -> None:
    root, manifest = corpus
    stores, annotations = open_stores(root)
    loaded = untrained(stores)
    other = LoadedModel(loaded.model, loaded.digest, loaded.features | {MUSIC: "0" * 64})
    with pytest.raises(ValueError, match="music features were made by another extractor"):
        evaluate(other, manifest, stores, annotations, None, section())


def test_shuffled_pairs_are_at_chance(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path)
    ids = [row["clip_id"] for row in manifest]
    spec = {"modality": "music", "dims": 10, "max_segments": 4}
    noise = np.random.default_rng(3).normal(size=(len(ids), 4, 10))
    update_store(
        tmp_path / "features/music", spec, [(c, "2") for c in ids], lambda c: ((i, noise[ids.index(i)]) for i in c), 64
    )
    manifest = [row | {"split": "test"} for row in manifest]
    stores, annotations = open_stores(tmp_path)
    metrics = evaluate(untrained(stores), manifest, stores, annotations, None, section()).metrics
    expected = metrics.pool.chance.recall_at_10
    for mode, reached in metrics.track.video_to_music.items():
        assert reached.recall_at_10.low - 0.1 <= expected <= reached.recall_at_10.high + 0.1, mode


def test_clips_of_one_track_answer_each_other_at_track_level_only(corpus: tuple[Path, list[dict[str, Any]]]) -> None:
    root, manifest = corpus
    stores, annotations = open_stores(root)
    one_track = [row | {"track_id": "same"} if row["split"] == "test" else row for row in manifest]
    metrics = evaluate(untrained(stores), one_track, stores, annotations, None, section()).metrics
    assert metrics.track.video_to_music["video"].recall_at_1.value == 1.0
    assert metrics.pool.chance.recall_at_1 == 1.0
    assert metrics.segment.video_to_music["video"].recall_at_1.value < 1.0


def test_single_segments_are_the_middle_and_the_music_at_that_place(tmp_path: Path) -> None:
    lengths = {"a": (4, 4), "b": (3, 5), "c": (1, 1)}
    for at, (name, dims) in enumerate(((VIDEO, 2), (MUSIC, 3))):
        values = {clip: np.arange(pair[at])[:, None] * np.ones((1, dims)) for clip, pair in lengths.items()}
        spec = {"modality": name, "dims": dims, "max_segments": 5}
        update_store(
            tmp_path / name, spec, [(c, "1") for c in values], lambda ids, v=values: ((i, v[i]) for i in ids), 8
        )
    video, music = FeatureStore.open(tmp_path / VIDEO), FeatureStore.open(tmp_path / MUSIC)
    ids = ["a", "b", "c"]
    middle = middle_segments(video, ids)
    assert middle.tolist() == [2, 1, 0]
    beside = segments_at(music, ids, middle / np.array([3, 2, 1]))
    assert beside.tolist() == [2, 2, 0]
    values, mask = OneSegment(music, ids, beside).gather(["b", "a"])
    assert values.shape == (2, 1, 3)
    assert mask.all()
    assert values[:, 0, 0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool_size": 1}, "evaluation.pool_size"),
        ({"confidence": 1.0}, "evaluation.confidence"),
        ({"pool": 3}, "evaluation.pool: unknown key"),
    ],
)
def test_wrong_params_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as error:
        parse_section(EvaluationSection, "evaluation", {"evaluation": SECTION | changes})
    assert message in str(error.value)
