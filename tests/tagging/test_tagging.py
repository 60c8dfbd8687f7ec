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
from components.code import covered
from components.increments import update_store
from components.settings import ParamsError, parse_section, read_params
from components.store import FeatureStore
from components.tagging.build import build_tagger
from components.tagging.clips import Clip
from components.tagging.examples import fold_of, pooled, seed_examples
from components.tagging.folder import partial_of
from components.tagging.logistic import fit_logistic, fit_platt
from components.tagging.params import ProbeParams, TaggingParams, Thresholds
from components.tagging.probe import ProbeTagger, _fitted, fit_probe
from components.tagging.progress import Scored, score_clips
from components.tagging.scores import calibration_error, reliability
from components.tagging.tag import Outputs, kept_tags, publish, read_scores
from components.tagging.tagger import Fitted, Library
from components.taxonomy import Taxonomy, read_taxonomy
from tests.tagging.look_alikes import clip_row
from tests.traced import ran

GENRES, MOODS, INSTRUMENTS = ["folk", "rock", "techno"], ["calm", "dark"], ["drums", "flute", "piano"]


TAXONOMY = Path("components/taxonomy.yaml")
EQUAL = Thresholds(genres=0.3, moods=0.3, instruments=0.3)


@pytest.fixture(scope="module")
def params() -> ProbeParams:
    section = {"kind": "probe", "thresholds": EQUAL, "min_examples": 8, "folds": 5, "seed": 1, "l2": [10.0, 100.0]}
    return ProbeParams.model_validate(section)


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return read_taxonomy(TAXONOMY)


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
    probabilities = fit.probe.probabilities(pooled(clips, clips.clip_ids))
    best = [fit.probe.tags[at][1] for at in probabilities[:, :3].argmax(axis=1)]
    right = np.mean([name == row["tags"][0]["name"] for name, row in zip(best, truth, strict=True)])
    assert right > 0.85


def test_the_fit_does_not_depend_on_the_order_of_the_library(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams
) -> None:
    store, rows = seed
    one = fit_probe(seed_examples(rows, store, 8), params)
    two = fit_probe(seed_examples(rows[::-1], store, 8), params)
    np.testing.assert_array_equal(one.probe.weights, two.probe.weights)
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


def test_tags_are_sorted_and_cut_at_the_threshold_of_their_group() -> None:
    tags = [
        ("genres", "folk"),
        ("genres", "rock"),
        ("moods", "calm"),
        ("instruments", "flute"),
        ("instruments", "piano"),
    ]
    kept = kept_tags(
        np.array([0.31, 0.7, 0.2999, 0.5, 0.5]), tags, Thresholds(genres=0.31, moods=0.2999, instruments=0.5)
    )
    assert [(tag["group"], tag["name"], tag["probability"]) for tag in kept] == [
        ("genres", "rock", 0.7), ("genres", "folk", 0.31), ("moods", "calm", 0.2999),
        ("instruments", "flute", 0.5), ("instruments", "piano", 0.5),
    ]  # fmt: skip
    assert not kept_tags(np.full(5, 0.3), tags, Thresholds(genres=0.4, moods=0.4, instruments=0.4))


def as_clips(*clip_ids: str) -> list[Clip]:
    return [Clip(clip_id, f"{clip_id}.mp4", "0", 0.0, 1.0) for clip_id in clip_ids]


def run_probe(
    folder: Path, seed: tuple[FeatureStore, list[dict]], clips: FeatureStore, params: ProbeParams, taxonomy: Taxonomy
) -> tuple[Fitted, Scored, list[dict]]:
    store, rows = seed
    outputs = Outputs(*(folder / name for name in ("tags.parquet", "scores.parquet", "refused.parquet", "tagger")))
    fitted = build_tagger(params, taxonomy, Library(rows, store.folder, clips.folder), outputs.tagger)
    wanted = as_clips(*clips.clip_ids, "no-features")
    scored = score_clips(fitted.tagger, wanted, read_scores(outputs.scores), partial_of(outputs.scores))
    return fitted, scored, publish(scored, fitted, params, outputs)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_more_clips_compute_only_those(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    tracks, _ = library(103, seed=3, prefix="c")
    some = {clip_id: row for clip_id, row in tracks.items() if clip_id not in ("c0000", "c0050", "c0102")}
    few, every = make_store(tmp_path / "some", some), make_store(tmp_path / "all", tracks)
    run_probe(tmp_path / "grown", seed, few, params, taxonomy)
    _, more, _ = run_probe(tmp_path / "grown", seed, every, params, taxonomy)
    assert (more.computed, more.kept, more.dropped, more.skipped) == (3, 100, 0, 1)
    run_probe(tmp_path / "scratch", seed, every, params, taxonomy)
    assert content(tmp_path / "grown") == content(tmp_path / "scratch")
    _, fewer, _ = run_probe(tmp_path / "grown", seed, few, params, taxonomy)
    assert (fewer.computed, fewer.kept, fewer.dropped) == (0, 100, 3)
    (tmp_path / "grown" / "scores.parquet").write_bytes(b"half a table")
    assert run_probe(tmp_path / "grown", seed, few, params, taxonomy)[1].computed == 100


def test_other_thresholds_change_the_tags_and_compute_nothing(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    clips = make_store(tmp_path / "clips", library(20, seed=3, prefix="c")[0])
    loose = run_probe(tmp_path / "o", seed, clips, params, taxonomy)[2]
    strict = params.model_copy(update={"thresholds": Thresholds(genres=0.3, moods=0.99, instruments=0.3)})
    _, scored, rows = run_probe(tmp_path / "o", seed, clips, strict, taxonomy)
    assert scored.computed == 0
    moods = [sum(tag["group"] == "moods" for row in some for tag in row["tags"]) for some in (loose, rows)]
    assert moods[1] < moods[0]


def test_a_saved_probe_is_used_again_until_its_library_changes(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams, taxonomy: Taxonomy, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clips = make_store(tmp_path / "clips", library(5, seed=3, prefix="c")[0])
    run_probe(tmp_path / "o", seed, clips, params, taxonomy)
    before = content(tmp_path / "o")
    assert {name for name in before if name.startswith("tagger/")} == {
        f"tagger/{name}"
        for name in ("config.json", "reliability.png", "scores.json", "tagger.safetensors", "vocabulary.json")
    }
    with monkeypatch.context() as patched:
        patched.setattr("components.tagging.probe.fit_probe", None)  # may not be called
        run_probe(tmp_path / "o", seed, clips, params, taxonomy)
    assert content(tmp_path / "o") == before
    (tmp_path / "o" / "tagger" / "tagger.safetensors").write_bytes(b"damaged")
    run_probe(tmp_path / "o", seed, clips, params, taxonomy)
    assert content(tmp_path / "o") == before
    fewer = (seed[0], seed[1][:-1])
    assert run_probe(tmp_path / "o", fewer, clips, params, taxonomy)[1].computed == 5


def test_tags_outside_the_taxonomy_are_kept_and_listed(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    store, rows = seed
    odd = [
        row | {"tags": [{**tag, "name": "skronk"} if tag["name"] == "rock" else tag for tag in row["tags"]]}
        for row in rows
    ]
    clips = make_store(tmp_path / "clips", library(20, seed=3, prefix="c")[0])
    fitted, _, tagged = run_probe(tmp_path / "o", (store, odd), clips, params, taxonomy)
    assert fitted.vocabulary.outside == (("genres", "skronk"),)
    assert any(tag["name"] == "skronk" for row in tagged for tag in row["tags"])
    document = json.loads((tmp_path / "o" / "tagger" / "vocabulary.json").read_text())
    assert document["outside_the_taxonomy"] == [["genres", "skronk"]] and document["unmapped"] == []


def run_stage(folder: Path) -> subprocess.CompletedProcess[str]:
    places = {
        "manifest": "manifest.parquet", "music": "music", "seed": "seed.parquet", "seed-music": "seed",
        "tags": "tags.parquet", "scores": "scores.parquet", "quarantine": "refused.parquet", "tagger": "tagger",
    }  # fmt: skip
    command = [sys.executable, "-m", "components.tagging"]
    command += [word for name, place in places.items() for word in (f"--{name}", str(folder / place))]
    return subprocess.run([*command, "--taxonomy", str(TAXONOMY)], capture_output=True, text=True)


def test_without_a_seed_library_no_clip_has_tags_and_the_run_goes_on(tmp_path: Path) -> None:
    tracks, _ = library(3, seed=4, prefix="c")
    music = make_store(tmp_path / "music", tracks)
    update_store(tmp_path / "seed", music.spec, [], lambda ids: iter([]), 64)
    tables.write_rows(tmp_path / "seed.parquet", [], tables.SEED)
    clips = [clip_row(clip_id, Path("x"), 1.0) for clip_id in tracks]
    tables.write_rows(tmp_path / "manifest.parquet", clips, tables.MANIFEST)
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
    ("key", "value"),
    [("thresholds", {"genres": 1.0, "moods": 0.3, "instruments": 0.3}), ("folds", 1), ("l2", []), ("l2", [0.0])],
)
def test_wrong_params_are_named(key: str, value: object) -> None:
    tree = read_params()
    tree["tagging"][key] = value
    with pytest.raises(ParamsError, match=key):
        parse_section(TaggingParams, "tagging", tree)


FIT = """
import hashlib
import numpy as np
from components.tagging.examples import Examples
from components.tagging.params import ProbeParams
from components.tagging.probe import fit_probe
rng = np.random.default_rng(0)
features = rng.standard_normal((120, 600))
labels = features[:, :5] + rng.standard_normal((120, 5)) > 0.5
tags = [("genres", str(n)) for n in range(5)]
examples = Examples([f"s{n}" for n in range(120)], features, tags, labels, [])
thresholds = {"genres": 0.3, "moods": 0.3, "instruments": 0.3}
section = {"kind": "probe", "thresholds": thresholds, "min_examples": 8, "folds": 5, "seed": 1, "l2": [10.0, 100.0]}
fit = fit_probe(examples, ProbeParams.model_validate(section))
print(hashlib.sha256(fit.probe.weights.tobytes() + fit.probe.biases.tobytes()).hexdigest())
"""


def test_the_number_of_threads_does_not_change_the_probe() -> None:
    def digest(threads: str) -> str:
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        return subprocess.run(
            [sys.executable, "-c", FIT], capture_output=True, text=True, check=True, env=environment
        ).stdout

    assert digest("1") == digest("2") != ""


def test_all_that_fits_and_scores_is_covered(
    seed: tuple[FeatureStore, list[dict]], params: ProbeParams, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    store, rows = seed
    examples = seed_examples(rows, store, params.min_examples)
    fit = covered(_fitted)
    used = ran(lambda: _fitted(examples, params), fit)
    assert "components.tagging.logistic:fit_logistic" in used and used <= set(fit)
    probe, _, _ = _fitted(examples, params)
    score = covered(ProbeTagger)
    used = ran(lambda: list(ProbeTagger(probe, store).score([Clip(store.clip_ids[0], "", "", 0.0, 1.0)])), score)
    assert "components.tagging.probe:Probe" in used and used <= set(score)
