"""The tests behind the drift decision: hand-computed statistics, whole groups, false alarms, power."""

import numpy as np
import pytest

from benchmarks.drift import World, settings
from flows.drift.decide import Family, decide, prepare
from flows.drift.harm import Slice, predict
from flows.drift.two_sample import (
    Result,
    frequencies,
    holm,
    kolmogorov_smirnov,
    mean_discrepancy,
    shuffled_labels,
)

TRUE = np.array([[0], [0], [0], [0], [1], [1]], np.float32)  # four old clips, two new ones, no permutation


def test_kolmogorov_smirnov_is_the_largest_distance_of_distribution_functions() -> None:
    columns = np.array([[1, 5], [2, 5], [3, 5], [4, 5], [3.5, 5], [9, 5]], np.float32)
    result = kolmogorov_smirnov(columns, TRUE)
    assert result.each == pytest.approx((0.75, 0.0))  # at 3: three of four old ones are below, no new one
    assert result.worst == 0


def test_mean_discrepancy_of_four_points_by_hand() -> None:
    columns = np.array([[0], [0], [1], [1]], np.float32)
    labels = np.array([[0], [0], [1], [1]], np.float32)
    # Squared distances: two of 0 and four of 1, median 1; kernel 1 inside a side, exp(-1) across.
    assert mean_discrepancy(columns, labels).statistic == pytest.approx(2 - 2 * np.exp(-1), abs=1e-6)


def test_shares_are_compared_in_standard_errors() -> None:
    present = np.array([[0], [0], [0], [0], [1], [1]], np.float32)
    error = np.sqrt(1 / 3 * 2 / 3 * (1 / 2 + 1 / 4))
    assert frequencies(present, TRUE).statistic == pytest.approx(1 / error)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_permutations_move_whole_groups() -> None:
    groups = np.repeat([f"artist {number}" for number in range(30)], 4)
    labels = shuffled_labels(groups, np.arange(120) >= 80, 200, np.random.default_rng(0))
    assert labels[:, 0].tolist() == [0.0] * 80 + [1.0] * 40
    by_group = labels.reshape(30, 4, 201).sum(axis=1)
    assert set(np.unique(by_group)) == {0.0, 4.0}
    assert (labels.sum(axis=0) == 40).all()


def test_two_of_three_tests_must_agree() -> None:
    family = Family("music", {"a": Result(0.001, 1), "b": Result(0.5, 1), "c": Result(0.9, 1)}, (), p=0.75)
    assert family.votes(0.05) == ["a"]


def test_media_like_the_reference_raise_few_alarms_and_shifted_media_raise_one() -> None:
    world = World(64, 3)
    prepared = prepare(world.clips(500, "old"), 32)
    ours = settings(permutations=199).model_copy(update={"most_clips": 250})
    alarms = [decide(prepared, world.clips(60, f"new{n}"), ours, seed=n).drifted for n in range(20)]
    assert sum(alarms) <= 4  # of 20 at 5 %, more has a probability below 0.003
    shifted = decide(prepared, world.clips(60, "far", mean=2.0), ours)
    assert [family.name for family in shifted.families if family.drifted] == ["music"]
    assert decide(prepared, world.clips(60, "wide", spread=3.0), ours).drifted


def test_the_same_window_gives_the_same_decision() -> None:
    world = World(16, 1)
    prepared, window = prepare(world.clips(200, "old"), 8), world.clips(60, "new")
    assert decide(prepared, window, settings()) == decide(prepared, window, settings())


def test_predicted_harm_weighs_recall_by_the_new_mix() -> None:
    slices = (
        Slice(name="folk", queries=50, recall=0.8, error=0.05),
        Slice(name="jazz", queries=50, recall=0.4, error=0.1),
    )
    reference = [("genres:folk",)] * 5 + [("genres:jazz",)] * 5
    window = [("genres:folk",)] * 1 + [("genres:jazz",)] * 8 + [("genres:techno", "genres:jazz")]
    harm = predict(0.6, slices, reference, window)
    assert harm is not None
    assert harm.change == pytest.approx(-0.4 * 0.2 + 0.3 * -0.2)
    assert harm.unseen == pytest.approx(0.1)
    error = np.hypot(0.4 * 0.05, 0.3 * 0.1)
    assert harm.high - harm.low == pytest.approx(2 * 1.96 * error)
