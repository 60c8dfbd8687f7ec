"""The probe tagger: learns what can be learnt, is calibrated, and computes rows once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import tables
from components.increments import update_store
from components.settings import ParamsError, parse_section, read_params, read_section
from components.store import FeatureStore
from components.tagging.examples import fold_of, pooled, seed_examples
from components.tagging.logistic import fit_logistic, fit_platt
from components.tagging.params import ProbeParams, TaggingParams
from components.tagging.probe import Tagger, fit_probe
from components.tagging.scores import calibration_error, reliability
from components.tagging.tag import KEYED_TAGS, kept_tags, tag_clips
from components.tagging.tagger import fit_tagger, load_tagger, save_tagger, tagger_digest

GENRES, MOODS, INSTRUMENTS = ["folk", "rock", "techno"], ["calm", "dark"], ["drums", "flute", "piano"]


@pytest.fixture(scope="module")
def params() -> ProbeParams:
    return read_section(TaggingParams, "tagging")


def make_store(folder: Path, tracks: dict[str, np.ndarray], spec: dict | None = None) -> FeatureStore:
    dims = len(next(iter(tracks.values()))[0])
    spec = spec or {"modality": "music", "kind": "test", "dims": dims, "max_segments": 3}
    rows = [(clip_id, f"content {clip_id}") for clip_id in tracks]
    update_store(folder, spec, rows, lambda ids: ((clip_id, tracks[clip_id]) for clip_id in ids), 64)
    return FeatureStore.open(folder)


def library(count: int, seed: int, prefix: str = "s") -> tuple[dict[str, np.ndarray], list[dict]]:
    """Tracks whose segments tell genre, mood and instruments through noise, and their rows."""
    rng = np.random.default_rng(seed)
    ways = np.random.default_rng(99).standard_normal((8, 12))
    tracks, rows = {}, []
    for number in range(count):
        genre, mood, plays = rng.integers(3), rng.integers(2), rng.random(3) < 0.4
        truth = np.concatenate([np.eye(3)[genre], np.eye(2)[mood], plays])
        clip_id = f"{prefix}{number:04d}"
        tracks[clip_id] = (truth @ ways + 0.8 * rng.standard_normal((2, 12))).astype(np.float32)
        tags = [{"group": "genres", "name": GENRES[genre]}, {"group": "moods", "name": MOODS[mood]}]
        tags += [{"group": "instruments", "name": name} for name, on in zip(INSTRUMENTS, plays, strict=True) if on]
        rows.append(
            {
                "clip_id": clip_id,
                "uri": f"{clip_id}.m4a",
                "sha256": "0" * 64,
                "start_s": 0.0,
                "end_s": 4.0,
                "tags": tags,
            }
        )
    return tracks, rows


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, list[dict]]:
    tracks, rows = library(160, seed=1)
    return make_store(tmp_path_factory.mktemp("seed") / "seed", tracks), rows


def test_pooling_ignores_padding(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", {"a": np.array([[1.0, 2.0], [3.0, 6.0]]), "b": np.array([[5.0, 7.0]])})
    np.testing.assert_allclose(pooled(store, ["a", "b"]), [[2, 4, 1, 2], [5, 7, 0, 0]])


def test_logistic_regression_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 60))  # more features than tracks
    labels = np.stack([features[:, 0] > 0, features[:, 1] + features[:, 2] > 0.3], axis=1)
    weights, biases = fit_logistic(features, labels, [50.0, 5.0])[5.0]
    for tag in range(2):
        peer = LogisticRegression(C=1 / 5.0, tol=1e-8, max_iter=2000).fit(features, labels[:, tag])
        np.testing.assert_allclose(weights[tag], peer.coef_[0], atol=2e-3)
        np.testing.assert_allclose(biases[tag], peer.intercept_[0], atol=5e-3)


def test_platt_mends_logits_that_are_twice_too_sure() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1.5, (4000, 1))
    labels = rng.random((4000, 1)) < 1 / (1 + np.exp(-truth))
    slope, offset = fit_platt(2 * truth, labels)
    assert abs(slope - 0.5) < 0.05 and abs(offset) < 0.1


def test_calibration_error_by_hand() -> None:
    labels = np.array([[True], [False], [True], [True]])
    said = np.array([[0.25], [0.25], [0.85], [0.85]])
    assert reliability(labels, said) == [(0.25, 0.5, 2), (0.85, 1.0, 2)]
    assert np.isclose(calibration_error(labels, said), (0.25 * 2 + 0.15 * 2) / 4)


def test_the_probe_learns_and_says_how_well(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams, tmp_path: Path
) -> None:
    store, rows = seed
    fit = fit_probe(seed_examples(rows, store, params.min_examples), params)
    for group in ("genres", "moods", "instruments"):
        figures = fit.scores["groups"][group]
        assert figures["roc_auc"] > 0.9 and figures["ece"] < 0.12
    tracks, truth = library(60, seed=2, prefix="c")
    clips = make_store(tmp_path / "clips", tracks)
    probabilities = fit.tagger.probabilities(pooled(clips, clips.clip_ids))
    best = [fit.tagger.tags[at][1] for at in probabilities[:, :3].argmax(axis=1)]
    right = np.mean([name == row["tags"][0]["name"] for name, row in zip(best, truth, strict=True)])
    assert right > 0.85


def test_the_fit_does_not_depend_on_the_order_of_the_library(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams
) -> None:
    store, rows = seed
    one = fit_tagger(seed_examples(rows, store, 8), params)
    two = fit_tagger(seed_examples(rows[::-1], store, 8), params)
    np.testing.assert_array_equal(one.tagger.weights, two.tagger.weights)
    assert one.scores == two.scores


def test_rare_tags_and_tracks_without_features_are_left_out(seed: tuple[FeatureStore, list[dict]]) -> None:
    store, rows = seed
    odd = [dict(row) for row in rows]
    odd[0] = odd[0] | {"tags": [*odd[0]["tags"], {"group": "instruments", "name": "theremin"}]}
    odd.append(odd[0] | {"clip_id": "unheard"})
    examples = seed_examples(odd, store, 8)
    assert examples.left_out == [(("instruments", "theremin"), 1)]
    assert "unheard" not in examples.clip_ids and ("instruments", "theremin") not in examples.tags
    assert [group for group, _ in examples.tags] == ["genres"] * 3 + ["moods"] * 2 + ["instruments"] * 3


def test_an_unknown_group_is_named(seed: tuple[FeatureStore, list[dict]]) -> None:
    store, rows = seed
    with pytest.raises(
        ValueError, match=r"s0000\.m4a: tag 'fast' is in group 'tempo'; groups are genres, moods, instruments"
    ):
        seed_examples([rows[0] | {"tags": [{"group": "tempo", "name": "fast"}]}], store, 1)


@given(st.lists(st.text(max_size=4), unique=True, min_size=1, max_size=30), st.integers(2, 5))
def test_folds_are_even_and_follow_the_ids(clip_ids: list[str], folds: int) -> None:
    fold = fold_of(clip_ids, folds, 1)
    counts = np.bincount(fold, minlength=folds)
    assert counts.max() - counts.min() <= 1
    again = dict(zip(clip_ids[::-1], fold_of(clip_ids[::-1], folds, 1), strict=True))
    assert [again[clip_id] for clip_id in clip_ids] == fold.tolist()


def test_tags_are_sorted_cut_and_rounded() -> None:
    tags = [
        ("genres", "folk"),
        ("genres", "rock"),
        ("moods", "calm"),
        ("instruments", "flute"),
        ("instruments", "piano"),
    ]
    tagger = Tagger(tags, np.zeros((5, 1)), np.zeros(5))
    kept = kept_tags(np.array([0.31, 0.7654321234, 0.2999, 0.5, 0.5]), tagger, 0.30)
    assert [(tag["group"], tag["name"], tag["probability"]) for tag in kept] == [
        ("genres", "rock", 0.765432), ("genres", "folk", 0.31), ("instruments", "flute", 0.5), ("instruments", "piano", 0.5)
    ]  # fmt: skip


def test_more_clips_compute_only_those(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams, tmp_path: Path
) -> None:
    store, rows = seed
    fit = fit_probe(seed_examples(rows, store, 8), params)
    tracks, _ = library(103, seed=3, prefix="c")
    some = {clip_id: row for clip_id, row in tracks.items() if clip_id not in ("c0000", "c0050", "c0102")}

    def run(table: Path, store: FeatureStore, digest: str = "tagger 1"):
        tagged = tag_clips([*store.clip_ids, "no-features"], store, fit.tagger, digest, 0.3, table)
        tables.write_rows(table, tagged.rows, KEYED_TAGS)
        return tagged

    run(tmp_path / "grown.parquet", make_store(tmp_path / "some", some))
    every = make_store(tmp_path / "all", tracks)
    more = run(tmp_path / "grown.parquet", every)
    assert (more.computed, more.kept, more.dropped, more.without_features) == (3, 100, 0, 1)
    run(tmp_path / "scratch.parquet", every)
    assert (tmp_path / "grown.parquet").read_bytes() == (tmp_path / "scratch.parquet").read_bytes()
    fewer = run(tmp_path / "grown.parquet", make_store(tmp_path / "some", some))
    assert (fewer.computed, fewer.kept, fewer.dropped) == (0, 100, 3)
    assert run(tmp_path / "grown.parquet", every, digest="tagger 2").kept == 0
    (tmp_path / "grown.parquet").write_bytes(b"half a table")
    assert run(tmp_path / "grown.parquet", every).computed == 103


def test_a_saved_tagger_says_the_same(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams, tmp_path: Path
) -> None:
    store, rows = seed
    fit = fit_probe(seed_examples(rows, store, 8), params)
    save_tagger(fit, tmp_path / "tagger", params, store.digest)
    loaded = load_tagger(tmp_path / "tagger")
    assert tagger_digest(loaded, 0.3, "f") == tagger_digest(fit.tagger, 0.3, "f") != tagger_digest(fit.tagger, 0.4, "f")
    assert sorted(path.name for path in (tmp_path / "tagger").iterdir()) == [
        "config.json", "reliability.png", "scores.json", "tagger.safetensors"
    ]  # fmt: skip
    before = {path.name: path.read_bytes() for path in (tmp_path / "tagger").iterdir()}
    save_tagger(fit, tmp_path / "tagger", params, store.digest)
    assert {path.name: path.read_bytes() for path in (tmp_path / "tagger").iterdir()} == before


def run_stage(folder: Path) -> subprocess.CompletedProcess[str]:
    places = {
        "manifest": "manifest.parquet", "music": "music", "seed": "seed.parquet", "seed-music": "seed",
        "tags": "tags.parquet", "tagger": "tagger",
    }  # fmt: skip
    command = [sys.executable, "-m", "components.tagging"]
    command += [word for name, place in places.items() for word in (f"--{name}", str(folder / place))]
    return subprocess.run(command, capture_output=True, text=True)


def test_without_a_seed_library_no_clip_has_tags_and_the_run_goes_on(tmp_path: Path) -> None:
    tracks, _ = library(3, seed=4, prefix="c")
    music = make_store(tmp_path / "music", tracks)
    update_store(tmp_path / "seed", music.spec, [], lambda ids: iter([]), 64)
    tables.write_rows(tmp_path / "seed.parquet", [], tables.SEED)
    clip = dict.fromkeys(tables.MANIFEST.names, "x") | {
        "bytes": 1, "width": 1, "height": 1, "duration_s": 1.0, "fps": 1.0, "sample_rate_hz": 1, "channels": 1, "start_s": 0.0, "end_s": 1.0
    }  # fmt: skip
    tables.write_rows(tmp_path / "manifest.parquet", [clip | {"clip_id": c} for c in tracks], tables.MANIFEST)
    done = run_stage(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 usable seed tracks" in done.stdout and "3 rows, 3 computed" in done.stdout
    assert [row["tags"] for row in tables.read_rows(tmp_path / "tags.parquet", tables.TAGS)] == [[], [], []]
    assert json.loads((tmp_path / "tagger" / "scores.json").read_text())["groups"] == {}

    tables.write_rows(tmp_path / "seed.parquet", [], tables.SEED)
    update_store(tmp_path / "seed", music.spec | {"version": 2}, [], lambda ids: iter([]), 64)
    refused = run_stage(tmp_path)
    assert (
        refused.returncode == 1
        and "made by different extractors" in refused.stderr
        and "Traceback" not in refused.stderr
    )


@pytest.mark.parametrize(
    ("key", "value"), [("threshold", 1.0), ("folds", 1), ("l2", []), ("l2", [0.0]), ("min_examples", 1)]
)
def test_wrong_params_are_named(key: str, value: object) -> None:
    tree = read_params()
    tree["tagging"][key] = value
    with pytest.raises(ParamsError, match=key):
        parse_section(TaggingParams, "tagging", tree)


FIT = """
import sys
from pathlib import Path
import numpy as np
from components.settings import read_section
from components.tagging.examples import Examples
from components.tagging.params import TaggingParams
from components.tagging.tagger import fit_tagger, tagger_digest
rng = np.random.default_rng(0)
features = rng.standard_normal((120, 600))
labels = features[:, :5] + rng.standard_normal((120, 5)) > 0.5
tags = [("genres", str(n)) for n in range(5)]
examples = Examples([f"s{n}" for n in range(120)], features, tags, labels, [])
print(tagger_digest(fit_tagger(examples, read_section(TaggingParams, "tagging")).tagger, 0.3, "f"))
"""


def test_the_number_of_threads_does_not_change_the_tagger() -> None:
    def digest(threads: str) -> str:
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        return subprocess.run(
            [sys.executable, "-c", FIT], capture_output=True, text=True, check=True, env=environment
        ).stdout

    assert digest("1") == digest("2") != ""
