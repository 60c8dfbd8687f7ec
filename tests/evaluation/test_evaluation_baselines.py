"""Baselines on planted data and hand-computed cases, measured by the evaluation's own code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.encoder.cca import fit_axes, fit_cca
from components.encoder.ranking import ranks
from components.evaluation.baselines.cca_scorer import GRID, Setting, fit_best_setting, fit_cca_scorer, fit_settings
from components.evaluation.baselines.chance import ChanceScorer
from components.evaluation.baselines.examples import Examples, TooFewClips, log_rank, pooled, split_examples
from components.evaluation.baselines.late_fusion import LateFusion, fit_late_fusion, mix
from components.evaluation.baselines.popularity import fit_popularity
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.store import FeatureStore
from tests.training.corpus_look_alike import open_features, write_corpus

Array = NDArray[Any]


class Arrays:
    """A source of features in memory; a clip of which nothing is known has an empty mask."""

    def __init__(self, values: dict[str, Array]) -> None:
        self._values = {clip: np.asarray(value, np.float32) for clip, value in values.items()}

    def gather(self, clip_ids: Sequence[str]) -> tuple[Array, Array]:
        most = max(len(value) for value in self._values.values())
        dims = next(iter(self._values.values())).shape[1]
        out, mask = np.zeros((len(clip_ids), most, dims), np.float32), np.zeros((len(clip_ids), most), np.bool_)
        for at, clip in enumerate(clip_ids):
            value = self._values.get(clip, np.zeros((0, dims)))
            out[at, : len(value)], mask[at, : len(value)] = value, True
        return out, mask


def world(clips: int, seed: int, silent: int = 0, noise: float = 0.3) -> Examples:
    """Music has six factors; video shows the first four and text the last four, through fixed linear maps."""
    fixed, rng = np.random.default_rng(7), np.random.default_rng(seed)
    maps: dict[Modality, Array] = {
        VIDEO: fixed.normal(size=(4, 9)), TEXT: fixed.normal(size=(4, 8)), MUSIC: fixed.normal(size=(6, 10))
    }  # fmt: skip
    factors = rng.normal(size=(clips, 6))
    shown = {VIDEO: factors[:, :4], TEXT: factors[:, 2:], MUSIC: factors}
    ids = [f"{seed}-{at:03d}" for at in range(clips)]
    sources: dict[Modality, Any] = {}
    for modality, mapping in maps.items():
        values = (shown[modality] @ mapping)[:, None] + noise * rng.normal(size=(clips, 3, mapping.shape[1]))
        first = silent if modality == TEXT else 0
        sources[modality] = Arrays(dict(zip(ids[first:], values[first:], strict=True)))
    return Examples(sources, ids, np.arange(clips))


# -- pooling ---------------------------------------------------------------------------------------


def test_pooling_takes_valid_segments_only() -> None:
    source = Arrays({"a": np.array([[1.0, 4.0], [3.0, 4.0]]), "b": np.array([[5.0, 6.0], [5.0, 6.0], [8.0, 6.0]])})
    np.testing.assert_allclose(pooled(source, ["b", "a", "c"], spread=False), [[6, 6], [2, 4], [0, 0]])
    np.testing.assert_allclose(
        pooled(source, ["a", "b"], spread=True), [[2, 4, 1, 0], [6, 6, np.sqrt(2), 0]], rtol=1e-6
    )


# -- the clips of a split --------------------------------------------------------------------------


def test_the_clips_of_a_split_and_whose_words_they_show(tmp_path: Path) -> None:
    # 48 train clips, the first 38 described; 12 val clips, all described. Captions differ from descriptions by 0.05.
    manifest = write_corpus(tmp_path, without={"music": {5}, "text": {6, 40}})
    features = open_features(tmp_path)
    stores: dict[Modality, FeatureStore] = {VIDEO: features.video, MUSIC: features.music, TEXT: features.captions}

    def examples(split: Literal["train", "val"], least: int, described: float) -> Examples:
        return split_examples(manifest, split, stores, features.annotations, least, described, 0)

    train = examples("train", 47, 0.0)
    assert train.ids == [row["clip_id"] for row in manifest[:48] if row["clip_id"] != "clip-0005"]
    np.testing.assert_array_equal(train.positives(np.arange(47)), np.eye(47, dtype=np.bool_))
    captions = [clip for clip in train.ids if clip not in ("clip-0006", "clip-0040")]
    np.testing.assert_array_equal(train.sources[TEXT].gather(captions)[0], features.captions.gather(captions)[0])
    assert train.sources[TEXT].gather(["clip-0006", "clip-0040"])[1].tolist() == [[False], [False]]
    val = examples("val", 2, 1.0)
    np.testing.assert_array_equal(val.sources[TEXT].gather(val.ids)[0], features.annotations.gather(val.ids)[0])
    told = examples("train", 2, 1.0).seen("text")
    assert [train.ids[at] for at in np.setdiff1d(np.arange(47), told)] == ["clip-0040"], "not described, no caption"

    with pytest.raises(TooFewClips, match="47 train clips have video and music, a baseline needs 48"):
        examples("train", 48, 0.0)
    for row in manifest:
        row["track_id"] = "one"
    with pytest.raises(TooFewClips, match=r"all 12 val clips .* are of one track"):
        examples("val", 2, 1.0)
    stores[TEXT] = features.music
    with pytest.raises(ValueError, match="different text extractors") as error:
        examples("val", 2, 1.0)
    assert not isinstance(error.value, TooFewClips)


# -- CCA -------------------------------------------------------------------------------------------


def test_cca_of_two_columns_by_hand() -> None:
    # One column a side: the canonical correlation is the plain one, 0.8 here; a ridge r on both divides it by 1 + r.
    left = np.array([[1.0], [2.0], [3.0], [4.0]])
    right = np.array([[10.0], [20.0], [40.0], [30.0]])
    assert fit_cca(left, right, 0.0, 0.0, 5).correlations == pytest.approx([0.8])
    ridged = fit_cca(left, right, 0.25, 0.25, 5)
    assert ridged.correlations == pytest.approx([0.64])
    # One direction: the cosine is the sign of the product.
    np.testing.assert_allclose(ridged.scores(np.array([[1.0], [4.0]]), np.array([[40.0]]), 1.0), [[-1.0], [1.0]])


def test_without_a_ridge_it_is_the_cca_of_scikit_learn() -> None:
    from sklearn.cross_decomposition import CCA as Reference

    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 3)) * [1.5, 1.0, 0.6]
    left = np.concatenate([shared + 0.5 * rng.normal(size=(400, 3)), rng.normal(size=(400, 2))], axis=1) * [
        1,
        5,
        0.1,
        2,
        9,
    ]
    right = shared @ rng.normal(size=(3, 4)) + 0.5 * rng.normal(size=(400, 4)) + 3.0
    mine = fit_cca(left, right, 0.0, 0.0, 3)
    reference = Reference(n_components=3, tol=1e-10, max_iter=2_000).fit(left, right)
    x, y = reference.transform(left, right)
    expected = [float(np.corrcoef(x[:, at], y[:, at])[0, 1]) for at in range(3)]
    np.testing.assert_allclose(mine.correlations, expected, rtol=1e-5)
    projected = mine.query.standardise(left) @ mine.query_weights
    for at in range(3):
        assert abs(np.corrcoef(projected[:, at], x[:, at])[0, 1]) == pytest.approx(1.0, abs=1e-5)


@given(st.integers(3, 12), st.integers(2, 30), st.integers(2, 30), st.floats(0.01, 10), st.integers(0, 99))
def test_many_dims_and_few_rows_give_the_direct_solution(n: int, p: int, q: int, ridge: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    mine = fit_cca(left, right, ridge, ridge, 2)
    x, y = ((rows - rows.mean(0)) / rows.std(0) for rows in (left, right))
    a, b, c = x.T @ x / n + ridge * np.eye(p), y.T @ y / n + ridge * np.eye(q), x.T @ y / n
    squared = np.sort(np.linalg.eigvals(np.linalg.solve(a, c) @ np.linalg.solve(b, c.T)).real)[::-1]
    np.testing.assert_allclose(mine.correlations**2, squared[: len(mine.correlations)], atol=1e-8)
    assert (mine.correlations <= 1).all()


def test_a_feature_that_never_changes_counts_for_nothing() -> None:
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    plain = fit_cca(left, right, 1.0, 1.0, 2).scores(left, right, 1.0)
    odd = np.concatenate([left, np.full((20, 1), 5.0)], axis=1)
    new = np.concatenate([left, np.full((20, 1), 99.0)], axis=1)
    np.testing.assert_allclose(fit_cca(odd, right, 1.0, 1.0, 2).scores(new, right, 1.0), plain, atol=1e-6)


def test_broken_rows_are_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="4 query rows, 3 music rows"):
        fit_cca(rng.normal(size=(4, 2)), rng.normal(size=(3, 2)), 1.0, 1.0, 2)
    with pytest.raises(ValueError, match="at least two rows"):
        fit_axes(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="finite"):
        fit_axes(np.array([[1.0], [np.nan]]))


def test_settings_share_their_work_and_change_nothing() -> None:
    train = world(60, 0)
    query, music = pooled(train.sources[VIDEO], train.ids, False), pooled(train.sources[MUSIC], train.ids, False)
    for fit in fit_settings(query, music, GRID[::7]):
        alone = fit_cca(query, music, fit.setting.query_ridge, fit.setting.music_ridge, fit.setting.directions)
        np.testing.assert_allclose(fit.scores(query, music), alone.scores(query, music, fit.setting.power), atol=1e-6)


def test_the_setting_is_that_of_validation() -> None:
    rng = np.random.default_rng(3)
    hidden = rng.normal(size=(60, 2))
    query = np.concatenate([hidden + 0.5 * rng.normal(size=(60, 2)), rng.normal(size=(60, 36))], axis=1)
    music = hidden + 0.5 * rng.normal(size=(60, 2))
    grid = (Setting(1e-6, 1e-6, 2, 1.0), Setting(30.0, 0.1, 2, 1.0))
    found = fit_best_setting(query[:40], music[:40], query[40:], music[40:], np.eye(20, dtype=np.bool_), grid)
    assert found.setting is grid[1], "without a ridge 36 columns of noise explain 40 rows"


def test_cca_finds_what_was_planted_and_both_sides_beat_one() -> None:
    train, val, test = world(300, 0, noise=1.5), world(60, 1, noise=1.5), world(80, 2, noise=1.5)
    scorer = fit_cca_scorer(train, val, spread=False)
    assert set(scorer.modes) == {"video", "text", "video+text"}
    own = np.eye(80, dtype=np.bool_)
    rank = {mode: ranks(scorer.scores(test.sources, test.ids, mode), own) for mode in scorer.modes}
    found = {mode: float(np.log(one).mean()) for mode, one in rank.items()}
    assert found["video+text"] < min(found["video"], found["text"])
    assert max(np.median(one) for one in rank.values()) < 8, "chance is 40.5"
    again = fit_cca_scorer(train, val, spread=False)
    np.testing.assert_array_equal(
        scorer.scores(test.sources, test.ids, "video"), again.scores(test.sources, test.ids, "video")
    )


def test_clips_without_a_text_are_left_out_of_the_modes_with_text() -> None:
    train, val = world(60, 0, silent=20), world(20, 1)
    assert train.seen("video").tolist() == list(range(60))
    assert train.seen("video+text").tolist() == list(range(20, 60))
    whole = world(60, 0)
    spoken = Examples(whole.sources, whole.ids[20:], whole.tracks[20:])
    mine, same = fit_cca_scorer(train, val, False), fit_cca_scorer(spoken, val, False)
    np.testing.assert_array_equal(mine.scores(val.sources, val.ids, "text"), same.scores(val.sources, val.ids, "text"))
    mute = world(20, 1, silent=20 - 1)
    assert set(fit_cca_scorer(train, mute, False).modes) == {"video"}
    with pytest.raises(TooFewClips, match="no query mode has two of each"):
        fit_cca_scorer(train, Examples(val.sources, val.ids[:1], val.tracks[:1]), False)


# -- popularity, chance ----------------------------------------------------------------------------


def test_popularity_by_hand() -> None:
    # Standardised, the training music is (1, 1), (1, -1), (-1, 1), (-1, -1) twice over but once: the centre leans.
    values = {"a": [[2.0, 0.0]], "b": [[2.0, 0.0]], "c": [[0.0, 0.0]], "d": [[0.0, 4.0]]}
    source: dict[Modality, Any] = {MUSIC: Arrays({clip: np.array(value) for clip, value in values.items()})}
    scorer = fit_popularity(Examples(source, list(values), np.arange(4)))
    std = np.sqrt(3.0)  # of (0, 0, 0, 4) around 1
    unit = [np.array(v) / np.linalg.norm(v) for v in ([1, -1 / std], [1, -1 / std], [-1, -1 / std], [-1, 3 / std])]
    centre = np.mean(unit, axis=0)
    expected = [float(one @ centre) for one in unit]
    scores = scorer.scores(source, list(values), "text")
    np.testing.assert_allclose(scores, [expected] * 4, atol=1e-6)


def test_chance_is_chance_and_stays_the_same_for_a_pair() -> None:
    ids = [f"clip-{at}" for at in range(300)]
    scores = ChanceScorer(1).scores({}, ids, "video")
    np.testing.assert_array_equal(scores, ChanceScorer(1).scores({}, ids, "video"))
    np.testing.assert_array_equal(
        scores[np.ix_([5, 2], [5, 2])], ChanceScorer(1).scores({}, ["clip-5", "clip-2"], "video")
    )
    for other in (ChanceScorer(2).scores({}, ids, "video"), ChanceScorer(1).scores({}, ids, "text"), scores.T):
        assert abs(np.corrcoef(scores.ravel(), other.ravel())[0, 1]) < 0.02
    assert scores.mean() == pytest.approx(0.5, abs=0.01)
    assert scores.std() == pytest.approx(np.sqrt(1 / 12), abs=0.01)
    assert np.median(ranks(scores, np.eye(300, dtype=np.bool_))) == pytest.approx(150, abs=30)


# -- late fusion -----------------------------------------------------------------------------------


def test_mixing_by_hand() -> None:
    video = np.array([[0.0, 2.0], [2.0, 0.0]], np.float32)  # standardised -1, 1, 1, -1
    text = np.array([[30.0, 10.0], [10.0, 10.0]], np.float32)  # mean 15, deviation 5 sqrt 3
    z = np.array([[3.0, -1.0], [-1.0, -1.0]]) / np.sqrt(3.0)
    np.testing.assert_allclose(mix(video, text, 0.25), 0.75 * np.array([[-1, 1], [1, -1]]) + 0.25 * z, atol=1e-6)
    np.testing.assert_allclose(mix(np.ones((2, 2), np.float32), text, 0.5), 0.5 * z, atol=1e-6)


def test_late_fusion_takes_its_weight_from_validation_and_beats_its_parts() -> None:
    train, val, test = world(300, 0, noise=1.0), world(60, 1, noise=1.0), world(80, 2, noise=1.0)
    cca = fit_cca_scorer(train, val, spread=False)
    fused = fit_late_fusion(cca, cca, val)
    assert 0.2 < fused.weight < 0.8, "both sides tell equally much"
    for mode in ("video", "text"):
        np.testing.assert_array_equal(
            fused.scores(test.sources, test.ids, mode), cca.scores(test.sources, test.ids, mode)
        )
    own = np.eye(80, dtype=np.bool_)
    found = {
        mode: log_rank(fused.scores(test.sources, test.ids, mode), own) for mode in ("video", "text", "video+text")
    }
    assert found["video+text"] < min(found["video"], found["text"])
    blind = fit_late_fusion(ChanceScorer(1), cca, val)
    assert blind.weight > 0.8
    assert isinstance(blind, LateFusion)
    with pytest.raises(TooFewClips, match="1 of 20 val clips"):
        fit_late_fusion(cca, cca, world(20, 1, silent=19))
