"""Intervals, rules and detectable differences against figures computed by hand or by the evaluation's own code."""

import numpy as np
import pytest

from components.evaluation.difference import paired_difference
from flows.gate.report import Difference
from flows.gate.statistics import (
    OneCluster,
    Resampling,
    at_most,
    detectable,
    floor,
    non_inferiority,
    overall,
    queries_for,
    superiority,
)


def found(value: float, low: float, high: float, error: float = 0.01) -> Difference:
    return Difference(value=value, low=low, high=high, error=error, queries=100)


def test_the_difference_is_that_of_the_evaluation_draw_by_draw() -> None:
    draw = np.random.default_rng(3)
    ours, theirs = draw.integers(1, 40, size=(2, 300))
    clusters = [f"a{number}" for number in draw.integers(0, 60, size=300)]
    expected = paired_difference(ours, theirs, clusters, 500, 11, 0.9).recall_at_10
    seen = Resampling(clusters, 500, 11).difference(ours <= 10, theirs <= 10, 0.9)
    assert (seen.value, seen.low, seen.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_the_error_of_independent_queries_is_the_textbook_one() -> None:
    # 400 queries: 40 only ours, 20 only theirs, the rest level. Mean 0.05, variance 0.15 - 0.05^2.
    change = np.array([1] * 40 + [-1] * 20 + [0] * 340)
    seen = Resampling([str(at) for at in range(400)], 4000, 1).difference(change == 1, change == -1, 0.95)
    assert seen.value == pytest.approx(0.05)
    assert seen.error == pytest.approx(((0.15 - 0.0025) / 400) ** 0.5, rel=0.05)


def test_clips_of_one_artist_count_as_one_piece_of_evidence() -> None:
    change = np.repeat(np.array([1] * 10 + [-1] * 5 + [0] * 85), 4)  # every artist's four clips move together
    alone = Resampling([str(at) for at in range(400)], 2000, 1).difference(change == 1, change == -1, 0.95)
    together = Resampling([str(at // 4) for at in range(400)], 2000, 1).difference(change == 1, change == -1, 0.95)
    assert together.error == pytest.approx(2 * alone.error, rel=0.1), "four times fewer pieces, twice the error"


def test_one_artist_alone_has_no_interval() -> None:
    with pytest.raises(OneCluster, match="1 cluster among 5 queries"):
        Resampling(["a"] * 5, 500, 1)


@pytest.mark.parametrize(
    ("value", "low", "high", "says"),
    [
        (0.03, 0.001, 0.06, "passed"),
        (0.009, 0.001, 0.02, "inconclusive"),  # better, and perhaps by enough
        (0.005, 0.001, 0.009, "failed"),  # better, and surely not by enough
        (0.03, -0.001, 0.06, "inconclusive"),
        (0.00, -0.02, 0.0099, "failed"),
        (-0.05, -0.08, -0.02, "failed"),
        (0.0, 0.0, 0.0, "failed"),  # the very same answers
    ],
)
def test_superiority(value: float, low: float, high: float, says: str) -> None:
    assert superiority(found(value, low, high), 0.01) == says


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (-0.029, 0.01, "passed"),
        (-0.03, 0.01, "inconclusive"),
        (-0.09, -0.031, "failed"),
        (-0.09, -0.03, "inconclusive"),
    ],
)
def test_non_inferiority(low: float, high: float, says: str) -> None:
    assert non_inferiority(found(0.0, low, high), 0.03) == says


def test_floors_and_limits() -> None:
    assert [floor(found(0, low, high), 0.3) for low, high in ((0.3, 0.5), (0.2, 0.29), (0.2, 0.3))] == [
        "passed", "failed", "inconclusive",
    ]  # fmt: skip
    assert (at_most(0.25, 0.25), at_most(0.26, 0.25)) == ("passed", "failed")


def test_a_failed_check_outweighs_an_open_one_and_an_open_one_the_passed() -> None:
    assert overall(["passed", "inconclusive", "failed"]) == "failed"
    assert overall(["passed", "inconclusive"]) == "inconclusive"
    assert overall(["passed", "passed"]) == "passed"


def test_the_detectable_difference_is_found_with_the_power_it_names() -> None:
    # z of 95 % two-sided is 1.960, of 80 % 0.842.
    assert detectable(0.02, 0.95, 0.8, 0.01) == pytest.approx(2.802 * 0.02, rel=1e-3)
    assert detectable(0.001, 0.95, 0.8, 0.01) == pytest.approx(0.01 + 0.842 * 0.001, rel=1e-3), "the minimum rules"
    draw = np.random.default_rng(0)
    error, true = 0.02, detectable(0.02, 0.95, 0.8, 0.01)
    tries = [superiority(found(v, v - 1.96 * error, v + 1.96 * error), 0.01) for v in draw.normal(true, error, 4000)]
    assert tries.count("passed") / 4000 == pytest.approx(0.8, abs=0.02)


def test_how_many_queries_an_effect_takes() -> None:
    # An error of 0.02 at 100 queries is 0.2 for one; (2.802 x 0.2 / 0.028)^2 = 400.
    assert queries_for(0.02802, found(0.03, 0, 0.06, 0.02), 0.95, 0.8) == pytest.approx(400, abs=1)
