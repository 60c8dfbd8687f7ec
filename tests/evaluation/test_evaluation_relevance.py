"""Graded relevance, nDCG, hubness and coverage against numbers worked out by hand."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluation import relevance as module
from components.evaluation.occurrence import by_chance, occurrences, skewness
from components.evaluation.relevance import ndcg, ndcg_by_chance, relevance


def tag(group: str, name: str, probability: float) -> dict[str, object]:
    return {"group": group, "name": name, "probability": probability}


TAGS = {
    "a": [tag("genres", "folk", 0.8), tag("moods", "sad", 0.4)],
    "b": [tag("genres", "folk", 0.4), tag("moods", "happy", 0.4)],
    "c": [tag("genres", "rock", 0.9)],
}


def test_relevance_by_hand() -> None:
    found = relevance(["a", "b", "c", "none"], TAGS, np.eye(4, dtype=bool))
    # a and b: min 0.4 for folk; max 0.8 for folk, 0.4 for sad, 0.4 for happy.
    assert found[0, 1] == found[1, 0] == pytest.approx(0.4 / 1.6)
    assert found[0, 2] == found[3, 0] == 0.0
    assert np.diag(found).tolist() == [1.0] * 4, "a track answers itself, also without a tag"
    same = np.array([[True, False, True], [False, True, False], [True, False, True]])
    assert relevance(["a", "b", "c"], TAGS, same)[0, 2] == 1.0


def test_ndcg_by_hand() -> None:
    assert doctest.testmod(module).failed == 0
    relevant = np.array([[1.0, 0.25, 0.0]])
    discount = 1 / np.log2([2, 3, 4])
    best = 1 + 0.25 * discount[1]
    for scores, gained in (
        ([3.0, 2.0, 1.0], best),
        ([1.0, 2.0, 3.0], 0.25 * discount[1] + discount[2]),
        ([1.0, 1.0, 1.0], 0.25 * discount[1] + discount[2]),  # ties: the least relevant first
        ([1.0, 2.0, 1.0], 0.25 + discount[2]),
    ):
        assert ndcg(np.array([scores]), relevant)[0] == pytest.approx(gained / best)
    assert ndcg_by_chance(relevant)[0] == pytest.approx(1.25 / 3 * discount.sum() / best)
    assert ndcg(np.ones((1, 3)), np.zeros((1, 3)))[0] == 0.0


def test_only_the_first_ten_count() -> None:
    scores, relevant = -np.arange(12.0)[None], np.zeros((1, 12))
    relevant[0, 9] = relevant[0, 10] = 1.0
    assert ndcg(scores, relevant)[0] == pytest.approx((1 / np.log2(11)) / (1 + 1 / np.log2(3)))
    level = np.zeros((1, 12))  # all equal: the two relevant ones are taken last and fall out
    assert ndcg(level, relevant)[0] == 0.0


def test_random_orders_reach_what_chance_says() -> None:
    rng = np.random.default_rng(0)
    relevant = rng.random((400, 50))
    assert ndcg(rng.random((400, 50)), relevant).mean() == pytest.approx(ndcg_by_chance(relevant).mean(), abs=0.01)


def test_occurrences_by_hand() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.2, 0.4], [0.7, 0.3, 0.3]])
    counted, sure = occurrences(scores, k=2)
    assert counted.tolist() == [3.0, 1.5, 1.5]  # the third list shares its second place
    assert sure.tolist() == [True, True, True]
    counted, sure = occurrences(scores[2:], k=2)
    assert (counted.tolist(), sure.tolist()) == ([1.0, 0.5, 0.5], [True, False, False])


def test_skewness_by_hand() -> None:
    # Mean 2, deviations -1, -1, -1, 3: third moment 6, variance 3.
    assert skewness(np.array([1.0, 1.0, 1.0, 5.0])) == pytest.approx(6 / 3**1.5)
    assert skewness(np.full(5, 2.0)) == 0.0


def test_random_lists_are_as_even_as_chance_says() -> None:
    counted, sure = occurrences(np.random.default_rng(0).random((600, 600)))
    skew, cover = by_chance(600)
    assert skewness(counted) == pytest.approx(skew, abs=0.35)
    assert sure.mean() == pytest.approx(cover, abs=0.001)
    assert by_chance(10) == (0.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([2, 5, 1000]))
def test_the_gallerys_order_changes_nothing(seed: int, items: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores, relevant = np.floor(rng.random((7, items)) * levels), rng.integers(0, 3, (7, items)) / 2
    order = rng.permutation(items)
    np.testing.assert_allclose(ndcg(scores, relevant), ndcg(scores[:, order], relevant[:, order]))
    for mine, theirs in zip(occurrences(scores), occurrences(scores[:, order]), strict=True):
        np.testing.assert_allclose(mine[order], theirs)
    assert occurrences(scores)[0].sum() == pytest.approx(7 * min(10, items))
