"""Pools of any size and number, and what must not change a rank."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluation.clusters import clusters_of
from components.evaluation.pool import Pool, choose_pool
from components.evaluation.retrieval import rank_everything
from components.evaluation.run import measure
from components.store import FeatureStore
from tests.evaluation.planted import Drawn, Traits, section, write_traits


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, object]], dict[str, FeatureStore]]:
    rng = np.random.default_rng(1)
    return write_traits(tmp_path_factory.mktemp("traits"), rng.integers(0, 4, 60), rng.integers(0, 4, 60), (4, 4))


def pool_of(corpus: tuple, **changes: object) -> Pool:
    rows, stores = corpus
    return choose_pool(rows, stores, stores["text"], section(**changes))


def test_pools_share_no_clip_and_are_as_many_as_fit(corpus: tuple, caplog: pytest.LogCaptureFixture) -> None:
    whole = pool_of(corpus, pool_size=14)
    parts = whole.parts()
    assert [len(part) for part in parts] == [14] * 4
    assert len({clip for part in parts for clip in part.ids}) == len(whole) == 56
    assert whole.ids == sorted(whole.ids)
    assert all(part.ids == sorted(part.ids) and set(part.number) == {at} for at, part in enumerate(parts))
    assert pool_of(corpus, pool_size=14).ids == whole.ids != pool_of(corpus, pool_size=14, seed=6).ids
    assert [len(pool_of(corpus, pool_size=14, pools=count)) for count in (1, 3)] == [14, 42]
    with caplog.at_level(logging.INFO):
        assert len(pool_of(corpus, pool_size=14, pools=9).parts()) == 4
        assert len(pool_of(corpus, pool_size=500)) == 60
    assert "9 pools of 14 do not fit in 60 test clips; using 4" in caplog.text
    assert "pool_size 500 is more than the 60 test clips; using all" in caplog.text


def test_a_query_is_ranked_within_its_own_pool(corpus: tuple) -> None:
    whole = pool_of(corpus, pool_size=20)
    found = next(rank_everything(Drawn(), whole, ["video"]))
    assert (found.pool, len(found.clips), found.rank.max() <= 20) == (20, 60, True)
    assert found.clips.tolist() == whole.ids
    for part in whole.parts():
        alone = next(rank_everything(Drawn(), replace(part, number=None), ["video"]))
        at = np.isin(found.clips, part.ids)
        np.testing.assert_array_equal(found.rank[at], alone.rank)
        assert set(found.top[at]) <= set(part.ids)


def test_figures_of_several_pools(corpus: tuple) -> None:
    metrics = measure(Drawn(), pool_of(corpus, pool_size=20), None, [], section()).metrics
    assert (metrics.pool.size, metrics.pool.pools, metrics.pool.queries) == (20, 3, 60)
    assert metrics.pool.chance.recall_at_10 == pytest.approx(0.5)
    assert metrics.pool.chance.median_rank == 10.5
    for reached in metrics.track.video_to_music.values():
        assert reached.recall_at_10.value == pytest.approx(0.5, abs=0.2)


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(24)), levels=st.sampled_from([0, 2, 5]))
def test_the_order_of_the_pool_changes_nothing(corpus: tuple, order: list[int], levels: int) -> None:
    rows = [row | {"track_id": f"t{at // 2}"} for at, row in enumerate(corpus[0][:24])]
    plain, shuffled = (Pool(listed, "annotation", corpus[1]) for listed in (rows, [rows[at] for at in order]))
    scorer = Drawn(levels)
    one, other = (measure(scorer, pool, None, [], section(guidance=[], resamples=20)) for pool in (plain, shuffled))
    for mine, theirs in zip(one.rankings, other.rankings, strict=True):
        assert mine.clips.tolist() == theirs.clips.tolist()
        np.testing.assert_array_equal(mine.rank, theirs.rank)
        np.testing.assert_array_equal(mine.score, theirs.score)
    for block in ("track", "segment", "coverage"):
        assert getattr(one.metrics, block) == getattr(other.metrics, block)
    hubness = (measured.metrics.hubness.model_dump() for measured in (one, other))
    assert next(hubness) == pytest.approx(next(hubness), abs=1e-9)  # sums of shares, in another order


def test_a_scorer_without_an_opinion_is_last_everywhere(corpus: tuple) -> None:
    metrics = measure(Traits({"video": 0.0, "text": 0.0}), pool_of(corpus), None, [], section()).metrics
    assert metrics.track.video_to_music["video"].median_rank.value == 60
    assert metrics.segment.music_to_video["text"].recall_at_10.value == 0.0
    assert metrics.coverage.video == 0.0
    assert metrics.hubness.video == 0.0


def test_scores_that_are_no_numbers_are_named(corpus: tuple) -> None:
    class Broken(Drawn):
        def __init__(self, where: tuple[object, object]) -> None:
            super().__init__()
            self.where = where

        def scores(self, *given: object) -> np.ndarray:
            found = super().scores(*given).copy()
            found[self.where] = np.nan
            return found

    for where, message in (
        ((7, slice(None)), "mode video: 60 of 3600 scores are not finite numbers, first for the query of clip 'clip-007'"),
        ((slice(None), 9), "mode video: 60 of 3600 scores .* for the music of clip 'clip-009'; the model or its features"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            list(rank_everything(Broken(where), pool_of(corpus)))


def test_no_features_at_all_says_of_what(corpus: tuple, tmp_path: Path) -> None:
    rows, stores = corpus
    _, other = write_traits(tmp_path, [0], [0], (4, 4))
    renamed = [row | {"clip_id": f"x-{row['clip_id']}"} for row in rows]
    with pytest.raises(
        ValueError, match=r"0 usable test clips .*60 in test; of those without features: video 60, music 60"
    ):
        choose_pool(renamed, other, other["text"], section())
    assert len(choose_pool(rows, {**stores, "music": other["music"]}, stores["text"], section(least_test_clips=2)
                           .model_copy(update={"least_test_clips": 1}))) == 1  # fmt: skip


def test_clusters_are_the_coarsest_of_video_artist_and_track() -> None:
    def row(video: str, artist: str, track: str) -> dict[str, str]:
        return {"video_id": video, "artist_id": artist, "track_id": track}

    rows = [
        row("v1", "a", "t1"),
        row("v2", "a", "t2"),
        row("v3", "b", "t3"),
        row("v3", "c", "t4"),
        row("v4", "d", "t4"),
        row("v5", "e", "t5"),
    ]
    assert clusters_of(rows) == ["a", "a", "b", "b", "b", "e"]
