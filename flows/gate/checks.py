"""The checks of the gate: each a question, what was found, the limit, and the outcome."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.gate import rules
from flows.gate.resampling import Difference, Resampling
from flows.gate.rules import Outcome
from flows.gate.settings import GateSettings
from flows.gate.sides import FUSED, Queries, Side
from flows.gate.slices import Slice

NAMES = {"video": "video alone", "text": "text alone", FUSED: "video and text"}


@dataclass(frozen=True)
class Check:
    """One line of the decision.

    Attributes:
        key: a name for programs.
        asks: what must hold, in words.
        found: what was found, in words.
        limit: what it was held against, in words.
        outcome: whether it holds.
        figures: the numbers behind it.
    """

    key: str
    asks: str
    found: str
    limit: str
    outcome: Outcome
    figures: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return dict(self.__dict__)


def against_champion(
    ours: Side,
    theirs: Side,
    modes: dict[str, Difference],
    slices: list[Slice],
    worst: Difference | None,
    settings: GateSettings,
) -> Iterator[Check]:
    """Yield the checks of a challenger.

    Args:
        ours: the challenger.
        theirs: the champion.
        modes: differences of R@10 by query mode.
        slices: differences by slice.
        worst: difference between the slices that each serves worst; None where no slice is large enough.
        settings: minimum effect and margins.
    """
    least, margins = settings.minimum_effect, settings.margins
    gain = modes.get(FUSED)
    if gain is None:
        yield _unknown("superiority", "Better for video and text", "the test clips have no texts")
    else:
        outcome = rules.superiority(gain, least)
        yield Check(
            "superiority", "Better for video and text", _points(gain),
            f"interval above 0, gain at least {_plain(least)}", outcome, gain.as_json(),
        )  # fmt: skip
    for mode, margin in (("video", margins.video), ("text", margins.text)):
        asks = f"Not worse for {NAMES[mode]}"
        if mode in modes:
            outcome = rules.non_inferiority(modes[mode], margin)
            yield Check(mode, asks, _points(modes[mode]), _loses(margin), outcome, modes[mode].as_json())
        else:
            yield _unknown(mode, asks, "the test clips have no texts")
    yield from _slices(slices, worst, margins.worst_slice, settings.least_slice)
    if FUSED in ours.coverage and FUSED in theirs.coverage:
        lost = theirs.coverage[FUSED] - ours.coverage[FUSED]
        shares = {"challenger": ours.coverage[FUSED], "champion": theirs.coverage[FUSED]}
        yield Check(
            "coverage", "Shows as much of the catalogue",
            f"{ours.coverage[FUSED]:.1%} of its tracks, champion {theirs.coverage[FUSED]:.1%}",
            f"at most {_plain(margins.coverage)} less", rules.at_most(lost, margins.coverage), shares,
        )  # fmt: skip
    if ours.latency_ms is not None and theirs.latency_ms is not None:
        own, other = float(np.median(ours.latency_ms)), float(np.median(theirs.latency_ms))
        yield Check(
            "latency", "Answers as fast",
            f"{own:.2f} ms a query, champion {other:.2f} ms ({own / other - 1:+.0%})",
            f"at most {margins.latency:.0%} longer", rules.at_most(own / other - 1, margins.latency),
            {"challenger_ms": own, "champion_ms": other},
        )  # fmt: skip


def _slices(slices: list[Slice], worst: Difference | None, margin: float, least: int) -> Iterator[Check]:
    if worst is None:
        yield _unknown("worst_slice", "Serves its worst slice as well", f"no genre, mood or length has {least} queries")
        return
    outcome = rules.non_inferiority(worst, margin)
    yield Check(
        "worst_slice", "Serves its worst slice as well", _points(worst), _loses(margin), outcome, worst.as_json()
    )
    judged = [one for one in slices if one.adjusted is not None]
    hurt = [one for one in judged if one.adjusted is not None and one.adjusted.high < -margin]
    names = ", ".join(f"{one.by} {one.name}" for one in hurt)
    found = f"lost: {names}" if hurt else f"none of {len(judged)} slices lost"
    limit = f"none shown to lose more than {_plain(margin)}"
    yield Check("slices", "No slice is lost", found, limit, "failed" if hurt else "passed", {"hurt": names})


def first_champion(
    ours: Side, queries: Queries, over_cca: Difference | None, resampling: Resampling, settings: GateSettings
) -> Iterator[Check]:
    """Yield the checks of a model while there is no champion.

    Args:
        ours: the model.
        queries: what it was asked.
        over_cca: R@10 for video+text less that of CCA; None where that is not asked for, or cannot be fitted.
        resampling: of the queries.
        settings: the floors.
    """
    floors = settings.floors
    if FUSED not in ours.ranks:
        yield _unknown("chance", "Far above chance", "the test clips have no texts")
        return
    share = resampling.share(ours.hits(FUSED), settings.confidence)
    least = floors.times_chance * queries.chance
    limit = f"interval from {least:.3f} up ({floors.times_chance:g} x chance)"
    if least >= 1:
        small = f"a pool of {queries.pool}: chance alone finds {queries.chance:.0%} among ten"
        yield Check("chance", "Far above chance", small, limit, "inconclusive", share.as_json())
    else:
        times = (
            f"R@10 {share.value:.3f} [{share.low:.3f}, {share.high:.3f}], {share.value / queries.chance:.1f} x chance"
        )
        yield Check("chance", "Far above chance", times, limit, rules.floor(share, least), share.as_json())
    if floors.above_cca:
        asks = "Better than CCA on the same data"
        if over_cca is None:
            yield _unknown("cca", asks, "too few clips with video and text to fit it")
        else:
            # Any gain shown will do: 0 is the limit.
            outcome = rules.non_inferiority(over_cca, 0.0)
            yield Check("cca", asks, _points(over_cca), "interval above 0", outcome, over_cca.as_json())


def _unknown(key: str, asks: str, why: str) -> Check:
    return Check(key, asks, why, "cannot be judged", "inconclusive", {})


def _points(found: Difference) -> str:
    return f"{100 * found.value:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _loses(margin: float) -> str:
    return f"interval above -{100 * margin:g} points"


def _plain(share: float) -> str:
    return f"{100 * share:g} point{'' if share == 0.01 else 's'}"
