"""Hand-made tables of ranks, and the verdict that a person would give."""

from dataclasses import replace

import numpy as np
import pytest

from components.evaluation.metrics_file import FUSED, MODES
from flows.gate.report import GateReport
from flows.gate.sides import Side

from .gate_tables import asked, first, gated, quick, side


def outcomes(report: GateReport) -> dict[str, str]:
    return {check.key: check.outcome for check in report.checks}


HALVES = {"half": ("left",) * 500 + ("right",) * 500}


def test_better_everywhere_passes() -> None:
    queries = asked(1000, labels=HALVES)
    ours, theirs = side("version 2", first(1000, 0.66)), side("version 1", first(1000, 0.60))
    report = gated(queries, ours, theirs, "champion", quick())
    assert report.verdict == "passed"
    assert outcomes(report) == dict.fromkeys(("superiority", "video", "text", "worst_slice", "slices"), "passed")
    assert report.modes[FUSED].value == pytest.approx(0.06)
    assert "66.0% of 1,000 queries, version 1 for 60.0%: +6.0 points" in report.words.found
    assert report.words.headline == "Version 2 is better than version 1 and may be promoted"


def test_the_same_answers_fail() -> None:
    queries = asked(1000)
    report = gated(
        queries, side("version 2", first(1000, 0.6)), side("version 1", first(1000, 0.6)), "champion", quick()
    )
    assert report.verdict == "failed" and outcomes(report)["superiority"] == "failed"
    assert "it is not better for video and text" in report.words.headline
    assert report.words.next == "Version 1 stays champion."


def test_a_gain_that_few_queries_cannot_show_is_inconclusive_and_says_how_many_would() -> None:
    queries = asked(50, labels={"half": ("left",) * 25 + ("right",) * 25})
    ours = {mode: hit | (np.arange(50) == 40) for mode, hit in first(50, 0.6).items()}
    report = gated(
        queries, side("version 2", ours), side("version 1", first(50, 0.6)), "champion", quick(least_slice=20)
    )
    # One query of 50: +2 points, error 0.0198, so 2.8 x that is detectable, and (2.8 x 0.14 / 0.02)^2 = 385 are needed.
    assert report.verdict == "inconclusive"
    assert report.detectable == pytest.approx(0.0555, abs=0.004)
    assert "as seen here, takes about 3" in report.words.next or "about 4" in report.words.next


def test_better_on_the_whole_and_worse_for_video_alone_fails_and_names_it() -> None:
    queries = asked(1000, labels=HALVES)
    hits = first(1000, 0.70) | {"video": np.arange(1000) < 500}
    report = gated(queries, side("version 2", hits), side("version 1", first(1000, 0.60)), "champion", quick())
    assert outcomes(report)["superiority"] == "passed" and outcomes(report)["video"] == "failed"
    assert report.words.headline == "Version 2 may not be promoted: it is worse for video alone"


def test_a_slice_that_is_given_up_fails_although_the_whole_gains() -> None:
    # 900 queries gain 20 points, 100 lose 40 and become the slice that is served worst.
    queries = asked(1000, labels={"genre": ("many",) * 900 + ("few",) * 100})
    at = np.arange(1000)
    champion = dict.fromkeys(("video", "text", FUSED), (at % 10) < 6)
    challenger = dict.fromkeys(("video", "text", FUSED), np.where(at < 900, at % 10 < 8, at % 10 < 2))
    report = gated(queries, side("version 2", challenger), side("version 1", champion), "champion", quick())
    assert outcomes(report)["superiority"] == "passed"
    assert outcomes(report)["worst_slice"] == "failed" and outcomes(report)["slices"] == "failed"
    (few,) = [one for one in report.slices if one.name == "few"]
    assert few.difference and few.difference.value == pytest.approx(-0.4) and "genre few" in str(report.checks)


def test_a_slice_with_few_queries_is_shown_and_not_judged() -> None:
    queries = asked(1000, labels={"genre": ("many",) * 980 + ("few",) * 20})
    at = np.arange(1000)
    champion, challenger = first(1000, 1.0), dict.fromkeys(("video", "text", FUSED), at < 980)
    report = gated(queries, side("b", challenger), side("a", champion), "champion", quick())
    (few,) = [one for one in report.slices if one.name == "few"]
    assert few.difference and few.difference.value == -1.0 and not few.judged
    assert outcomes(report)["slices"] == "passed"


def test_slower_and_narrower_models_fail() -> None:
    queries = asked(1000, labels=HALVES)
    old = side("a", first(1000, 0.6), coverage={FUSED: 0.95}, latency_ms=np.full((1, 9), 4.0))
    new = side("b", first(1000, 0.7), coverage={FUSED: 0.91}, latency_ms=np.full((1, 9), 4.9))
    assert gated(queries, new, old, "champion", quick()).verdict == "passed"
    for worse, key in (
        (replace(new, coverage={FUSED: 0.89}), "coverage"),
        (replace(new, latency_ms=np.full((2, 9), 5.1)), "latency"),
    ):
        twice = replace(old, latency_ms=np.full(np.shape(worse.latency_ms), 4.0))
        report = gated(queries, worse, twice, "champion", quick())
        assert (report.verdict, outcomes(report)[key]) == ("failed", "failed")


def test_a_slow_answer_counts_when_two_measurements_show_it() -> None:
    """The limit is a quarter longer. Nine equal ratios have themselves as their interval."""
    queries = asked(1000, labels=HALVES)
    old = side("a", first(1000, 0.6), latency_ms=np.full((1, 9), 4.0))
    twice = replace(old, latency_ms=np.full((2, 9), 4.0))

    def told(champion: Side, times: list[list[float]]) -> tuple[str, str]:
        new = side("b", first(1000, 0.7), latency_ms=np.array(times))
        (check,) = [one for one in gated(queries, new, champion, "champion", quick()).checks if one.key == "latency"]
        return check.outcome, check.found

    assert told(old, [[5.2] * 9]) == ("inconclusive", "5.20 ms a query, champion 4.00 ms (+30% [+30%, +30%])")
    assert told(twice, [[5.1] * 9, [5.1] * 9])[0] == "failed"
    assert told(twice, [[5.1] * 9, [4.0] * 9])[0] == "inconclusive", "a noisy neighbour, the first time"
    # Of 9 rounds the interval of the median at 95 % goes from the 2nd to the 8th: 2 (1 + 9) / 2^9 = 3.9 %.
    assert told(old, [[4.1, 4.2, 4.3, 4.4, 4.5, 4.6, 4.7, 4.8, 40.0]])[1].endswith("(+12% [+5%, +20%])")
    assert told(old, [[4.1, 4.2, 4.3, 4.4, 4.5, 4.6, 4.7, 4.8, 40.0]])[0] == "passed"
    few = replace(old, latency_ms=np.full((1, 5), 4.0))
    assert told(few, [[4.0] * 5]) == (
        "inconclusive",
        "4.00 ms a query, champion 4.00 ms (+0% too few rounds for an interval)",
    )


def test_five_artists_decide_nothing_and_it_is_said_how_many_would() -> None:
    ours, theirs = side("version 2", first(500, 0.9)), side("version 1", first(500, 0.1))
    report = gated(asked(500, per_cluster=100), ours, theirs, "champion", quick())
    assert report.verdict == "inconclusive" and report.detectable is None
    assert outcomes(report)["superiority"] == "inconclusive"
    assert "are by 5 artists; an interval of 95% takes 6 at least: add clips of other artists" in report.words.next
    assert report.checks[0].found == "+80.0 points, by too few artists for an interval"
    # First champion: five artists show no floor either.
    floors = gated(asked(500, per_cluster=100), ours, theirs, "floors", quick())
    assert floors.verdict == "inconclusive" and set(outcomes(floors).values()) == {"inconclusive"}


def test_clips_that_a_side_learnt_from_are_not_compared_on_and_are_named() -> None:
    queries = asked(300, labels={"mood": ("calm",) * 150 + ("loud",) * 150})
    kept = np.arange(300) >= 100
    left = {f"clip-{at:04d}": "version 1 was trained on it" for at in range(100)}
    # Version 1 finds every clip that it was trained on and none else; version 2 finds a half of the rest.
    theirs = side("version 1", first(300, 1 / 3))
    half = dict.fromkeys(MODES, (np.arange(300) >= 100) & (np.arange(300) % 2 == 0))
    ours = side("version 2", half)
    assert gated(queries, ours, theirs, "champion", quick()).verdict == "failed"
    rest = replace(queries.only(kept), left_out=left)
    report = gated(rest, ours.only(kept), theirs.only(kept), "champion", quick())
    assert (report.verdict, report.data.queries, report.data.left_out) == ("passed", 200, left)
    assert (report.modes[FUSED].value, rest.labels["mood"][:51]) == (0.5, ("calm",) * 50 + ("loud",))
    assert (
        "100 of 300 test clips are not compared on, since a version learnt from them (100: version 1 was trained on it)"
        in report.words.found
    )
    none = np.zeros(300, bool)
    gone = gated(replace(queries.only(none), left_out=left), ours.only(none), theirs.only(none), "champion", quick())
    assert gone.verdict == "inconclusive" and gone.checks[0].found == "no test clip is left that no version learnt from"


def test_without_texts_nothing_is_shown() -> None:
    hits = {"video": np.arange(100) < 50}
    report = gated(asked(100), side("b", hits), side("a", hits), "champion", quick())
    assert report.verdict == "inconclusive" and outcomes(report)["superiority"] == "inconclusive"


@pytest.mark.parametrize(
    ("model", "cca", "says"),
    [(0.5, 0.3, "passed"), (0.02, 0.01, "failed"), (0.5, 0.6, "failed"), (0.5, 0.5, "inconclusive")],
)
def test_a_first_champion_must_be_far_above_chance_and_better_than_cca(model: float, cca: float, says: str) -> None:
    queries = asked(1000)  # chance is 0.01, the floor 0.03
    report = gated(queries, side("version 1", first(1000, model)), side("CCA", first(1000, cca)), "floors", quick())
    assert report.verdict == says


def test_a_pool_in_which_chance_alone_wins_decides_nothing() -> None:
    report = gated(
        asked(20, pool=20), side("version 1", first(20, 1.0)), side("CCA", first(20, 0.1)), "floors", quick()
    )
    assert outcomes(report) == {"chance": "inconclusive", "cca": "passed"} and report.verdict == "inconclusive"


def test_a_model_that_cca_cannot_be_fitted_beside_is_inconclusive() -> None:
    report = gated(asked(1000), side("version 1", first(1000, 0.5)), None, "floors", quick())
    assert outcomes(report) == {"chance": "passed", "cca": "inconclusive"}


def test_the_same_tables_give_the_same_report() -> None:
    queries = asked(200, per_cluster=2)
    sides = side("b", first(200, 0.7)), side("a", first(200, 0.6))
    assert gated(queries, *sides, "champion", quick()) == gated(queries, *sides, "champion", quick())


def test_wins_and_losses_are_those_that_changed_most() -> None:
    queries = asked(6)
    old = side("a", first(6, 0.5))
    new = replace(old, ranks=old.ranks | {FUSED: np.array([1, 40, 900, 2, 11, 12])})  # before: 1 1 1 11 11 11
    changed = gated(queries, new, old, "comparison", quick()).examples
    assert [(row.clip_id, row.theirs_rank, row.ours_rank) for row in changed.wins] == [("clip-0003", 11, 2)]
    assert [row.clip_id for row in changed.losses] == ["clip-0002", "clip-0001", "clip-0005"]
