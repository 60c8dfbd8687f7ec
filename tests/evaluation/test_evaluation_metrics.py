"""Metrics, chance and intervals against numbers worked out by hand."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encoder import ranking
from components.evaluation import metrics
from components.evaluation.bootstrap import cluster_weights, intervals
from components.evaluation.metrics import NAMES, chance, chance_curve, ranks, recall_curve, summarise
from components.evaluation.metrics_file import KEYS, Interval, RankMetrics


@pytest.mark.parametrize("module", [metrics, ranking])
def test_the_worked_examples_are_right(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
    assert doctest.testmod(module).attempted > 0  # type: ignore[arg-type]


def test_summary_by_hand() -> None:
    found = summarise(np.array([1, 3, 10, 11]))
    assert found == {
        "R@1": 0.25,
        "R@5": 0.5,
        "R@10": 0.75,
        "MedR": 6.5,
        "MRR": pytest.approx((1 + 1 / 3 + 0.1 + 1 / 11) / 4),
    }


def test_recall_curve_by_hand() -> None:
    np.testing.assert_allclose(recall_curve(np.array([1, 3, 3, 4]), 5), [0.25, 0.25, 0.75, 1.0, 1.0])


def test_chance_with_one_positive_is_the_textbook_form() -> None:
    found = chance(20, np.ones(7, int))
    harmonic = sum(1 / k for k in range(1, 21))
    assert found["R@1"] == pytest.approx(1 / 20)
    assert found["R@10"] == pytest.approx(10 / 20)
    assert found["MedR"] == 10.5
    assert found["MRR"] == pytest.approx(harmonic / 20)


def test_chance_with_several_positives_by_hand() -> None:
    # Two right among four: the first is right with 1/2; one of the first two with 1 - (2*1)/(4*3) = 5/6.
    np.testing.assert_allclose(chance_curve(4, np.array([2])), [1 / 2, 5 / 6, 1.0, 1.0])
    np.testing.assert_allclose(chance_curve(4, np.array([2, 1])), [3 / 8, 2 / 3, 7 / 8, 1.0])
    assert chance(4, np.array([2]))["MRR"] == pytest.approx(1 / 2 + (5 / 6 - 1 / 2) / 2 + (1 / 6) / 3)


def test_chance_of_a_pool_below_ten() -> None:
    assert chance(6, np.ones(6, int))["R@10"] == 1.0


def test_random_scores_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    tracks = np.arange(400) // 2
    positives = tracks[:, None] == tracks[None, :]
    found = [summarise(ranks(rng.normal(size=(400, 400)), positives)) for _ in range(20)]
    expected = chance(400, positives.sum(axis=1))
    for name in ("R@1", "R@5", "R@10"):
        error = np.sqrt(expected[name] / 8000)  # standard error of a share over 20 x 400 queries
        assert np.mean([row[name] for row in found]) == pytest.approx(expected[name], abs=4 * error)
    assert np.mean([row["MRR"] for row in found]) == pytest.approx(expected["MRR"], rel=0.1)
    assert np.mean([row["MedR"] for row in found]) == pytest.approx(expected["MedR"], rel=0.03)


def test_intervals_hold_the_value_and_shrink_with_agreement() -> None:
    rng = np.random.default_rng(1)
    rank = rng.integers(1, 40, 300)
    metrics = intervals(rank, cluster_weights([str(at) for at in range(300)], 1000, 0), 0.95)
    values = summarise(rank)
    assert list(KEYS.values())[:5] == list(values) == list(NAMES)
    for field, name in zip(RankMetrics.model_fields, NAMES, strict=True):
        interval = getattr(metrics, field)
        assert interval.low <= interval.value == values[name] <= interval.high
    share = metrics.recall_at_10.value
    width = metrics.recall_at_10.high - metrics.recall_at_10.low
    assert width == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 300), rel=0.15)
    sure = intervals(np.ones(300, int), cluster_weights(["a"] * 150 + ["b"] * 150, 100, 0), 0.95)
    assert sure.recall_at_1 == Interval(value=1.0, low=1.0, high=1.0)


def test_clusters_widen_the_interval() -> None:
    rank = np.repeat(np.random.default_rng(2).integers(1, 20, 30), 10)  # ten equal queries of each artist
    alone = intervals(rank, cluster_weights([str(at) for at in range(300)], 1000, 0), 0.95).recall_at_10
    grouped = intervals(rank, cluster_weights([str(at // 10) for at in range(300)], 1000, 0), 0.95).recall_at_10
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_resamples_take_whole_clusters_and_repeat() -> None:
    weights = cluster_weights(["a", "a", "b", "c"], 50, 3)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, [0, 2, 3]].sum(axis=1), 3)
    np.testing.assert_array_equal(weights, cluster_weights(["a", "a", "b", "c"], 50, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(0, 1000))
def test_resampled_metrics_are_those_of_the_repeated_queries(listed: list[int], seed: int) -> None:
    rank = np.array(listed)
    weights = cluster_weights([str(at % 3) for at in range(len(rank))], 20, seed)
    metrics = intervals(rank, weights, 0.95)
    repeated = [summarise(np.repeat(rank, row.astype(int))) for row in weights if row.sum()]
    for field, name in zip(RankMetrics.model_fields, NAMES, strict=True):
        low, high = np.quantile([row[name] for row in repeated], [0.025, 0.975])
        interval = getattr(metrics, field)
        assert (interval.low, interval.high) == pytest.approx((low, high))
