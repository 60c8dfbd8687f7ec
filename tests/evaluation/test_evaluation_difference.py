"""Paired differences: by hand, planted, and how often the interval holds the truth."""

import time

import numpy as np
import pytest

from components.evaluation.difference import paired_difference
from components.evaluation.metrics_file import Interval


def test_values_by_hand() -> None:
    gain = paired_difference(np.array([1, 2, 11, 4]), np.array([2, 20, 11, 40]), list("abcd"), 100, 0, 0.95)
    assert {name: interval.value for name, interval in gain} == {
        "recall_at_1": 0.25, "recall_at_5": 0.5, "recall_at_10": 0.5, "median_rank": 3.0 - 15.5,
        "mean_reciprocal_rank": pytest.approx((1 + 1 / 2 + 1 / 11 + 1 / 4 - 1 / 2 - 1 / 20 - 1 / 11 - 1 / 40) / 4),
    }  # fmt: skip
    for _, interval in gain:
        assert interval.low <= interval.value <= interval.high


def test_two_clusters_give_the_three_means_of_their_draws() -> None:
    # Clusters a (difference 1) and b (difference 0): resamples are aa, ab, bb with 1/4, 1/2, 1/4.
    gain = paired_difference(np.array([1, 20]), np.array([20, 20]), ["a", "b"], 2000, 0, 0.95).recall_at_10
    assert gain == Interval(value=0.5, low=0.0, high=1.0)
    narrow = paired_difference(np.array([1, 20]), np.array([20, 20]), ["a", "b"], 2000, 0, 0.51).recall_at_10
    assert narrow.low in (0.0, 0.5)
    assert narrow.high in (0.5, 1.0)


def test_what_both_find_hard_cancels() -> None:
    rng = np.random.default_rng(0)
    hard = rng.integers(1, 200, 400)
    better = np.maximum(1, hard - 6)
    clusters = [str(at // 2) for at in range(400)]
    gain = paired_difference(better, hard, clusters, 500, 1, 0.95).recall_at_10
    assert gain.low > 0
    unpaired = paired_difference(better, rng.permutation(hard), clusters, 500, 1, 0.95).recall_at_10
    assert unpaired.high - unpaired.low > 1.5 * (gain.high - gain.low)
    swapped = paired_difference(hard, better, clusters, 500, 1, 0.95)
    loss = swapped.recall_at_10
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low))
    assert swapped.median_rank.value > 0
    none = Interval(value=0.0, low=0.0, high=0.0)
    assert all(interval == none for _, interval in paired_difference(hard, hard, clusters, 50, 1, 0.95))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = []
    for trial in range(200):
        effect = np.repeat(rng.random(60) < 0.3, 2)  # by cluster of two; the true gain in R@10 is 0.3 x 0.5
        before = np.where(rng.random(120) < 0.5, 1, 50)
        after = np.where(effect, 1, before)
        metrics = paired_difference(after, before, [str(at // 2) for at in range(120)], 200, trial, 0.9)
        held.append(metrics.recall_at_10.low <= 0.15 <= metrics.recall_at_10.high)
    assert 0.82 <= np.mean(held) <= 0.96


def test_it_is_fast() -> None:
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 1000, (2, 1000))
    spent = []
    for _ in range(3):
        start = time.process_time()
        paired_difference(ranks[0], ranks[1], [str(at) for at in range(1000)], 1000, 0, 0.95)
        spent.append(time.process_time() - start)
    assert min(spent) < 1.0


@pytest.mark.parametrize(
    ("a", "b", "clusters", "message"),
    [
        ([1, 2], [1], ["a", "b"], "2 and 1 ranks, 2 clusters"),
        ([1, 2], [1, 2], ["a", "a"], "1 cluster among 2 queries"),
        ([], [], [], "0 cluster among 0 queries"),
        ([0, 2], [1, 2], ["a", "b"], "ranks count from 1"),
    ],
)
def test_what_is_no_pair_is_refused(a: list[int], b: list[int], clusters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(np.array(a, int), np.array(b, int), clusters, 50, 0, 0.95)
