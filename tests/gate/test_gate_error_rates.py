"""Equal models are seldom promoted, a planted gain is nearly always: a small form of benchmarks/gate.py."""

from benchmarks.gate import promoted

from .gate_tables import quick


def test_equal_models_are_seldom_promoted() -> None:
    assert promoted(40, 400, 0.0, quick(resamples=400), seed=5)["passed"] <= 3  # 4 of 40 at 2.5 %: 1 in 50


def test_three_planted_points_at_four_thousand_queries_are_promoted() -> None:
    assert promoted(6, 4000, 0.03, quick(resamples=400), seed=5)["passed"] >= 5
