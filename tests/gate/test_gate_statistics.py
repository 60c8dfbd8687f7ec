"""Intervals, rules and detectable differences against figures computed by hand or by the evaluation's own code."""

import itertools

import numpy as np
import pytest

from benchmarks.gate import superior
from flows.gate.report import Difference
from flows.gate.statistics import (
    Resampling,
    at_most,
    detectable,
    estimate,
    floor,
    least_clusters,
    non_inferiority,
    overall,
    queries_for,
    superiority,
)

from .gate_tables import quick


def found(value: float, low: float, high: float, error: float = 0.01) -> Difference:
    return Difference(value=value, low=low, high=high, error=error, queries=100)


def test_an_interval_holds_what_an_exchange_of_the_sides_in_whole_clusters_does_not_refute() -> None:
    """Against the randomisation test itself, every sign of every cluster counted, at differences near the ends."""
    draw = np.random.default_rng(3)
    clusters = draw.integers(0, 8, size=60)
    ours, theirs = draw.random((2, 60)) < np.array([[0.7], [0.4]])
    seen = Resampling([f"a{one}" for one in clusters], 1000, 11).difference(ours, theirs, 0.9)

    def refuted(difference: float, side: int) -> bool:
        rest = [(ours * 1.0 - theirs - difference)[clusters == one].sum() * side for one in range(8)]
        as_large = sum(
            sum(sign * value for sign, value in zip(signs, rest, strict=True)) >= sum(rest) - 1e-9
            for signs in itertools.product((1, -1), repeat=8)
        )
        return as_large / 2**8 <= 0.05

    for step in (0.001, 0.01, 0.05):
        assert refuted(seen.low - step, 1) and not refuted(seen.low + step, 1)
        assert refuted(seen.high + step, -1) and not refuted(seen.high - step, -1)


def test_six_artists_who_all_gain_show_a_gain_and_five_show_nothing() -> None:
    # Each artist has 10 queries; ours finds 1 to 6 of them, the other model none: the least gain of an artist is 0.1.
    ours = np.concatenate([np.arange(10) < gain for gain in (1, 2, 3, 4, 5, 6)])
    names = np.repeat(list("abcdef"), 10)
    six = Resampling(names.tolist(), 1000, 0).difference(ours, np.zeros(60, bool), 0.95)
    assert (six.value, six.low, six.high) == pytest.approx((0.35, 0.1, 0.6))
    five = Resampling(names[:50].tolist(), 1000, 0).difference(ours[:50], np.zeros(50, bool), 0.95)
    assert (five.value, five.low, five.high) == pytest.approx((0.3, -1, 1))
    assert [least_clusters(confidence) for confidence in (0.75, 0.9, 0.95, 0.99)] == [3, 5, 6, 8]


@pytest.mark.parametrize("artists", [2, 3, 6, 9])
@pytest.mark.parametrize("skewed", [False, True])
def test_equal_models_pass_as_better_as_often_as_the_confidence_says_however_few_artists(
    artists: int, skewed: bool
) -> None:
    settings = quick(confidence=0.8, minimum_effect=0.001)
    share, bootstrap = superior(200, artists, skewed, settings, seed=2)
    assert share <= 0.1 + 3 * (0.1 * 0.9 / 200) ** 0.5  # three errors of 200 trials above 10 %
    assert artists > 3 or bootstrap > 0.16, "what the interval is held against does err there"


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


def test_one_artist_alone_shows_nothing() -> None:
    seen = Resampling(["a"] * 5, 500, 1).difference(np.ones(5, bool), np.zeros(5, bool), 0.95)
    assert (seen.value, seen.low, seen.high) == (1, -1, 1) and superiority(seen, 0.01) == "inconclusive"
    assert Resampling(["a"] * 5, 500, 1).share(np.ones(5, bool), 0.95).low == 0


def test_subsets_without_a_query_speak_for_neither_end() -> None:
    # Seven subsets of three clusters; the two that hold no query of a slice count as beyond either end.
    drawn = np.array([0.1, np.nan, 0.3, 0.2, 0.2, np.nan, 0.15])
    assert (estimate(0.2, drawn, 0.25, 9).low, estimate(0.2, drawn, 0.25, 9).high) == (
        0.1,
        0.3,
    )  # 3 of 8, 2 of them gone
    assert (estimate(0.2, drawn, 0.5, 9).low, estimate(0.2, drawn, 0.5, 9).high) == (-1, 1)  # 2 of 8, both gone


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
