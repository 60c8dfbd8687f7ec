"""Counterfactual texts, the weight of the text, and captions in place of annotations."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encoder.embed import MODES
from components.evaluation.counterfactual import guided
from components.evaluation.exchange import EitherText, Exchanged, donors
from components.evaluation.oracle import counterfactual_ranks
from components.evaluation.pool import Pool
from components.evaluation.run import measure
from components.increments import update_store
from components.store import FeatureStore
from tests.evaluation.planted import Drawn, Traits, section, write_traits


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 1000))
def test_texts_are_exchanged_between_tracks_each_once(tracks: list[int], seed: int) -> None:
    named = [f"t{track}" for track in tracks]
    given_to = donors(named, seed)
    largest = max(named.count(name) for name in named)
    moved = given_to != np.arange(len(named))
    assert all(named[at] != named[given_to[at]] for at in np.flatnonzero(moved))
    if 2 * largest <= len(named):
        assert moved.all()
        assert sorted(given_to) == list(range(len(named)))
    np.testing.assert_array_equal(given_to, donors(named, seed))


def test_another_seed_exchanges_otherwise() -> None:
    named = [str(at) for at in range(50)]
    assert (donors(named, 1) != donors(named, 2)).mean() > 0.8


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Eight looks by eight sounds: both together name one clip of 64."""
    seen, heard = np.divmod(np.arange(64), 8)
    rows, stores = write_traits(tmp_path_factory.mktemp("grid"), list(seen), list(heard), (8, 8))
    return Pool(rows, "annotation", stores)


def test_a_text_follower_moves_to_the_text_and_stays_with_the_video(pool: Pool) -> None:
    measured = measure(Traits(), pool, None, [], section())
    moved = measured.metrics.counterfactual
    # A mixed query fits one clip in both traits and 14 in one: the donor's track is among those 14 unless it is the one.
    ranking = measured.other_texts[0]
    assert set(ranking.rank) <= {1, 15}
    assert set(ranking.donor_rank) <= {1, 15}
    assert set(ranking.donor_before) <= {8, 64}
    assert moved.rises.value == (ranking.donor_rank < ranking.donor_before).mean() > 0.8
    assert moved.queries == 64
    assert (moved.own.median_rank.value, moved.donor_by_video.median_rank.value) == (15.0, 64.0)


def test_one_who_ignores_the_text_does_not_move(pool: Pool) -> None:
    moved = measure(Traits({"video": 1.0, "text": 0.0}), pool, None, [], section()).metrics.counterfactual
    assert moved.rises.value == 0.0
    assert moved.donor == moved.donor_by_video
    assert moved.own.recall_at_10.value == 1.0
    assert moved.above_chance


def test_one_who_ignores_the_video_is_at_chance_for_its_track(pool: Pool) -> None:
    moved = measure(Traits({"video": 0.0, "text": 1.0}), pool, None, [], section()).metrics.counterfactual
    assert moved.donor.recall_at_10.value == 1.0
    assert moved.own.recall_at_10.value < 0.3
    assert not measure(Drawn(), pool, None, [], section()).metrics.counterfactual.above_chance


def test_weights_by_hand(pool: Pool) -> None:
    rows = measure(Traits(), pool, None, [], section(guidance=[0.0, 0.25, 0.5, 1.0])).metrics.guidance
    assert [row.weight for row in rows] == [0.0, 0.25, 0.5, 1.0]
    # One trait alone leaves eight equal clips: rank 8 of 64. Both together leave one.
    assert [row.own.value for row in rows] == [1.0, 1.0, 1.0, 1.0]
    # At 0.25 the video's eight come first, one of them the best; the text's eight follow. At 0 the text says nothing.
    assert rows[3].donor.value == rows[0].kept.value == rows[1].kept.value == 1.0
    assert rows[0].donor.value < 0.3
    assert rows[3].kept.value < 0.3


def test_mixing_scores_ranks_as_mixing_embeddings_does() -> None:
    rng = np.random.default_rng(0)
    video, text, music = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(3, 40, 6)))
    scores = {"video": (video @ music.T).astype(np.float32), "text": (text @ music.T).astype(np.float32)}
    donor = np.roll(np.arange(40), 1)
    found = guided(scores, np.eye(40, dtype=bool), donor, [0.3])
    for name, words, target in (
        ("own", text, np.arange(40)),
        ("donor", text[donor], donor),
        ("kept", text[donor], np.arange(40)),
    ):
        query = 0.7 * video + 0.3 * words
        cosine = query / np.linalg.norm(query, axis=1, keepdims=True) @ music.T
        expected = 1 + (cosine > cosine[np.arange(40), target][:, None]).sum(axis=1)
        np.testing.assert_array_equal(found[name][:, 0], expected)


def test_the_oracle_takes_the_donors_words() -> None:
    factors = {"mood": {"type": "categorical", "cardinality": 3, "video_epsilon": 0.01, "text_epsilon": 0.01},
               "pace": {"type": "categorical", "cardinality": 3, "video_epsilon": 0.01}}  # fmt: skip
    rows = [{"music_mood": mood, "video_mood": mood, "text_mood": mood, "music_pace": pace, "video_pace": pace, "text_pace": None}
            for mood, pace in ((0, 0), (1, 1), (2, 2))]  # fmt: skip
    own, given_to = counterfactual_ranks(rows, factors, np.eye(3, dtype=bool), np.array([1, 2, 0]), 0)
    assert own.tolist() == [1, 1, 1]  # two of its traits agree, one of the donor's
    assert given_to.tolist() == [2, 2, 2]


def test_views_of_a_text_source(pool: Pool, tmp_path: Path) -> None:
    text, ids = pool.stores["text"], pool.ids
    swapped = Exchanged(text, ids, ids[::-1])
    np.testing.assert_array_equal(swapped.gather(ids[:3])[0], text.gather(ids[-3:][::-1])[0])
    update_store(
        tmp_path / "c", text.spec, [(ids[1], "1")], lambda wanted: ((clip, np.full((1, 8), 0.5)) for clip in wanted), 8
    )
    captions = FeatureStore.open(tmp_path / "c")
    values, mask = EitherText(captions, text).gather(ids[:2])
    assert values[:, 0].tolist() == [[1.0, *[0.0] * 7], [0.5] * 8]
    assert mask.all()
    values, mask = EitherText(text, captions).gather([ids[1], "elsewhere"])
    assert values[:, 0].tolist() == [[0.0, 1.0, *[0.0] * 6], [0.0] * 8]
    assert mask.tolist() == [[True], [False]]  # a clip that neither has is without a text


def test_a_share_of_clips_is_told_by_the_first_text_whatever_else_is_asked_for(pool: Pool, tmp_path: Path) -> None:
    text, ids = pool.stores["text"], pool.ids
    update_store(tmp_path / "c", text.spec, [(clip, "1") for clip in ids],
                 lambda wanted: ((clip, np.full((1, 8), 0.5)) for clip in wanted), 64)  # fmt: skip
    half = EitherText(FeatureStore.open(tmp_path / "c"), text, 0.5, 3)
    first = half.gather(ids)[0][:, 0, 0] == 0.5
    assert 20 <= first.sum() <= 44  # of 64
    np.testing.assert_array_equal(half.gather(ids[::-1][:9])[0][:, 0, 0] == 0.5, first[::-1][:9])
    assert (half.gather(ids)[0] != EitherText(FeatureStore.open(tmp_path / "c"), text, 0.5, 4).gather(ids)[0]).any()
    more = EitherText(FeatureStore.open(tmp_path / "c"), text, 0.8, 3).gather(ids)[0][:, 0, 0] == 0.5
    assert (more | ~first).all()  # who was among the half is among the larger share


def test_captions_are_measured_beside_annotations(pool: Pool, tmp_path: Path) -> None:
    # The captions of half the clips name a wrong sound: they are a slice of their own, over those clips alone.
    half = pool.ids[:32]
    wrong = np.roll(np.eye(8), 1, axis=1)
    update_store(tmp_path / "c", pool.stores["text"].spec, [(clip, "1") for clip in half],
                 lambda wanted: ((clip, wrong[[int(clip[-3:]) % 8]]) for clip in wanted), 8)  # fmt: skip
    both = Pool(pool.rows, "annotation", pool.stores, FeatureStore.open(tmp_path / "c"))
    rows = {row.name: row for row in measure(Traits(), both, None, [], section()).metrics.slices if row.by == "text"}
    assert (rows["annotation"].queries, rows["caption"].queries) == (64, 32)
    assert rows["annotation"].recall_at_10["text"].value == 1.0
    assert rows["caption"].recall_at_10["text"].value == 0.0
    assert set(rows["caption"].recall_at_10) == {"text", "video+text"}


def test_without_texts_there_is_nothing_to_exchange(pool: Pool) -> None:
    stores = {m: store for m, store in pool.stores.items() if m != "text"}
    metrics = measure(Traits(), Pool(pool.rows, "none", stores), None, [], section()).metrics
    assert (metrics.counterfactual, metrics.guidance) == (None, ())
    assert list(metrics.track.video_to_music) == ["video"]


def test_one_track_has_no_other_text(pool: Pool) -> None:
    rows = [row | {"track_id": "same"} for row in pool.rows]
    metrics = measure(Traits(), Pool(rows, "annotation", pool.stores), None, [], section()).metrics
    assert metrics.counterfactual is None
    assert (metrics.guidance[0].donor, metrics.guidance[0].kept) == (None, None)
    assert set(MODES) == {"video", "text", "video+text"}
