"""The verdict: the checks of a gate, each a question with its limit and outcome, and the report that holds them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.evaluation.metrics import summarise
from components.evaluation.metrics_file import FUSED, MODES, Interval, Mode
from flows.gate import statistics
from flows.gate.examples import examples
from flows.gate.report import (
    FORMAT,
    Check,
    Data,
    Difference,
    GateReport,
    Key,
    Kind,
    Outcome,
    Provenance,
    SideReport,
    Slice,
    Words,
)
from flows.gate.settings import GateSettings
from flows.gate.sides import NAMES, Queries, Side
from flows.gate.statistics import Resampling

_ASKS: Final[dict[Key, str]] = {
    "superiority": f"Better for {NAMES[FUSED]}",
    "video": f"Not worse for {NAMES['video']}",
    "text": f"Not worse for {NAMES['text']}",
    "worst_slice": "Serves its worst slice as well",
    "slices": "No slice is lost",
    "coverage": "Shows as much of the catalogue",
    "latency": "Answers as fast",
    "chance": "Far above chance",
    "cca": "Better than CCA on the same data",
}
# What a failed check says of the challenger, after "it".
_WRONG: Final[dict[Key, str]] = {
    "superiority": "is not better for video and text",
    "video": "is worse for video alone",
    "text": "is worse for text alone",
    "worst_slice": "serves its worst slice worse",
    "slices": "loses a slice",
    "coverage": "shows less of the catalogue",
    "latency": "answers more slowly",
    "chance": "is too close to chance",
    "cca": "is not better than CCA on the same data",
}
_NO_TEXTS: Final = "the test clips have no texts"
_NONE_LEFT: Final = "no test clip is left that no version learnt from"


@dataclass(frozen=True)
class Differences:
    """How two sides differ.

    Attributes:
        modes: R@10 of ours less that of theirs, by query mode that both have.
        slices: the same in slices, for video+text.
        worst: between the slices that each serves worst; None where no slice is large enough.
        detectable: smallest true gain for video+text that this data would show; None without texts or with too few artists.
    """

    modes: dict[Mode, Difference]
    slices: list[Slice]
    worst: Difference | None
    detectable: float | None


def make_report(
    queries: Queries,
    ours: Side,
    theirs: Side | None,
    kind: Kind,
    settings: GateSettings,
    made: str,
    key: str | None = None,
    machine: str | None = None,
) -> GateReport:
    """Return the report with its verdict; equal tables give an equal report.

    Args:
        queries: what both were asked.
        ours: the challenger, or the first of two that are compared.
        theirs: the champion; without one, CCA, or None where it cannot be fitted; or the second of two.
        kind: `champion`: a gate against it; `floors`: against the floors of a first champion;
            `comparison`: no gate, only the differences.
        settings: of the gate.
        made: when, ISO 8601.
        key: what the verdict follows from; see `evidence.key_of`.
        machine: where the sides were timed; see `evidence.this_machine`.
    """
    resampling = Resampling(queries.clusters, settings.resamples, settings.seed)
    apart = None if theirs is None else measure(queries, ours, theirs, resampling, settings)
    checks: list[Check] = []
    if kind == "champion":
        assert theirs is not None and apart is not None  # noqa: S101
        checks = list(_against_champion(ours, theirs, queries, apart, settings))
    elif kind == "floors":
        over_cca = apart.modes.get(FUSED) if apart else None
        checks = list(_against_floors(ours, queries, over_cca, resampling, settings))
    verdict = statistics.overall(check.outcome for check in checks) if checks else None
    return GateReport(
        format=FORMAT,
        kind=kind,
        verdict=verdict,
        words=_words(verdict, kind, queries, ours, theirs, apart, checks, resampling.clusters, settings),
        challenger=_side(ours, resampling, settings),
        other=None if theirs is None else _side(theirs, resampling, settings),
        checks=tuple(checks),
        modes=apart.modes if apart else {},
        slices=tuple(apart.slices) if apart else (),
        detectable=apart.detectable if apart else None,
        examples=examples(queries, ours, theirs, settings.examples),
        data=Data(
            test_digest=queries.digest,
            queries=len(queries),
            clusters=resampling.clusters,
            pool=queries.pool,
            chance=queries.chance,
            text_source=queries.text_source,
            left_out=dict(queries.left_out) or None,
            **queries.data,
        ),
        settings=settings,
        settings_digest=settings.digest(),
        provenance=Provenance(key=key, made=made, machine=machine, seed=settings.seed, resamples=settings.resamples),
    )


def measure(queries: Queries, ours: Side, theirs: Side, resampling: Resampling, settings: GateSettings) -> Differences:
    """Return every difference of the two sides."""
    shared = [mode for mode in MODES if mode in ours.ranks and mode in theirs.ranks]
    modes = {mode: resampling.difference(ours.hits(mode), theirs.hits(mode), settings.confidence) for mode in shared}
    if FUSED not in modes:
        return Differences(modes, [], None, None)
    slices, worst = statistics.slice_differences(queries, ours, theirs, resampling, settings)
    least = None
    if resampling.clusters >= statistics.least_clusters(settings.confidence):
        error = modes[FUSED].error
        least = statistics.detectable(error, settings.confidence, settings.power, settings.minimum_effect)
    return Differences(modes, slices, worst, least)


def _against_champion(
    ours: Side, theirs: Side, queries: Queries, apart: Differences, settings: GateSettings
) -> Iterator[Check]:
    """Yield the checks of a challenger."""
    least, margins = settings.minimum_effect, settings.margins
    gain, missing = apart.modes.get(FUSED), _NO_TEXTS if len(queries) else _NONE_LEFT
    if gain is None:
        yield _unknown("superiority", missing)
    else:
        limit = f"interval above 0, gain at least {_plain(least)}"
        outcome = statistics.superiority(gain, least)
        yield _check("superiority", _points(gain), limit, outcome, gain.model_dump())
    singles: tuple[tuple[Mode, Key, float], ...] = (("video", "video", margins.video), ("text", "text", margins.text))
    for mode, key, margin in singles:
        if mode in apart.modes:
            yield _not_worse(key, apart.modes[mode], margin)
        else:
            yield _unknown(key, missing)
    yield from _slices(apart, settings)
    if FUSED in ours.coverage and FUSED in theirs.coverage:
        own, other = ours.coverage[FUSED], theirs.coverage[FUSED]
        yield _check(
            "coverage",
            f"{own:.1%} of its tracks, champion {other:.1%}",
            f"at most {_plain(margins.coverage)} less",
            statistics.at_most(other - own, margins.coverage),
            {"challenger": own, "champion": other},
        )
    if ours.latency_ms is not None and theirs.latency_ms is not None:
        yield _latency(ours.latency_ms, theirs.latency_ms, settings)


def _latency(ours: NDArray[np.float64], theirs: NDArray[np.float64], settings: GateSettings) -> Check:
    """Return the check of times (measurements, rounds)."""
    limit = settings.margins.latency
    each = [statistics.slowdown(one, other, settings.confidence) for one, other in zip(ours, theirs, strict=True)]
    together = statistics.slowdown(ours.ravel(), theirs.ravel(), settings.confidence)
    own, other = float(np.median(ours)), float(np.median(theirs))
    twice = ", measured twice" if len(each) > 1 else ""
    longer = float(np.median(ours / theirs)) - 1
    ends = "too few rounds for an interval" if together is None else f"[{together.low:+.0%}, {together.high:+.0%}]"
    return _check(
        "latency",
        f"{own:.2f} ms a query, champion {other:.2f} ms ({longer:+.0%} {ends}{twice})",
        f"interval below {limit:.0%} longer; a miss counts when shown twice",
        statistics.not_slower(each, together, limit),
        {"challenger_ms": own, "champion_ms": other, "longer": longer, "measured": len(each)},
    )


def _slices(apart: Differences, settings: GateSettings) -> Iterator[Check]:
    margin, enough = settings.margins.worst_slice, statistics.least_clusters(settings.confidence)
    if apart.worst is None:
        few = f"no genre, mood or length has {settings.least_slice} queries by {enough} artists"
        yield _unknown("worst_slice", few)
        return
    yield _not_worse("worst_slice", apart.worst, margin)
    intervals = [(one, one.adjusted) for one in apart.slices if one.adjusted is not None]
    hurt = ", ".join(f"{one.by} {one.name}" for one, interval in intervals if interval.high < -margin)
    found = f"lost: {hurt}" if hurt else f"none of {len(intervals)} slices lost"
    limit = f"none shown to lose more than {_plain(margin)}"
    yield _check("slices", found, limit, "failed" if hurt else "passed", {"hurt": hurt})


def _against_floors(
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
        yield _unknown("chance", _NO_TEXTS if len(queries) else _NONE_LEFT)
        return
    share = resampling.share(ours.hits(FUSED), settings.confidence)
    least = floors.times_chance * queries.chance
    limit = f"interval from {least:.3f} up ({floors.times_chance:g} x chance)"
    if least >= 1:
        small = f"a pool of {queries.pool}: chance alone finds {queries.chance:.0%} among ten"
        yield _check("chance", small, limit, "inconclusive", share.model_dump())
    else:
        times = f"{share.value / queries.chance:.1f} x chance"
        found = f"R@10 {share.value:.3f} [{share.low:.3f}, {share.high:.3f}], {times}"
        yield _check("chance", found, limit, statistics.floor(share, least), share.model_dump())
    if floors.above_cca:
        if over_cca is None:
            yield _unknown("cca", "too few clips with video and text to fit it")
        else:
            # Any gain shown will do: 0 is the limit.
            outcome = statistics.non_inferiority(over_cca, 0.0)
            yield _check("cca", _points(over_cca), "interval above 0", outcome, over_cca.model_dump())


def _not_worse(key: Key, difference: Difference, margin: float) -> Check:
    outcome = statistics.non_inferiority(difference, margin)
    limit = f"interval above -{100 * margin:g} points"
    return _check(key, _points(difference), limit, outcome, difference.model_dump())


def _unknown(key: Key, why: str) -> Check:
    return _check(key, why, "cannot be judged", "inconclusive", {})


def _check(key: Key, found: str, limit: str, outcome: Outcome, figures: Mapping[str, Any]) -> Check:
    return Check(key=key, asks=_ASKS[key], found=found, limit=limit, outcome=outcome, figures=dict(figures))


def _side(side: Side, resampling: Resampling, settings: GateSettings) -> SideReport:
    recall: dict[Mode, Interval] = {}
    for mode in (mode for mode in MODES if mode in side.ranks):
        share = resampling.share(side.hits(mode), settings.confidence)
        recall[mode] = Interval(value=share.value, low=share.low, high=share.high)
    return SideReport(
        name=side.name,
        recall=recall,
        median_rank={mode: summarise(side.ranks[mode])["MedR"] for mode in recall},
        coverage=dict(side.coverage),
        facts=dict(side.facts),
    )


def _words(
    verdict: Outcome | None,
    kind: Kind,
    queries: Queries,
    ours: Side,
    theirs: Side | None,
    apart: Differences | None,
    checks: list[Check],
    clusters: int,
    settings: GateSettings,
) -> Words:
    """Return a headline, a sentence on what was found, and what to do next."""
    gain = apart.modes.get(FUSED) if apart else None
    against = theirs.name if theirs else "the floors"
    said = [_sentence(ours, theirs, gain, settings) if theirs and gain else "", _left_out(queries)]
    said += [_unread(side, queries) for side in (ours, theirs) if side is not None]
    found = " ".join(filter(None, said))
    if kind == "comparison":
        return Words(headline=f"{_start(ours.name)} against {against}", found=found, next="")
    failed = [_WRONG[check.key] for check in checks if check.outcome == "failed"]
    open_ = [f"“{check.asks}” ({check.found})" for check in checks if check.outcome == "inconclusive"]
    if verdict == "passed":
        what = f"is better than {against}" if kind == "champion" else "clears the floors of a first champion"
        headline, then = f"{_start(ours.name)} {what} and may be promoted", "Approve it, then promote it."
    elif verdict == "failed":
        headline = f"{_start(ours.name)} may not be promoted: it {' and '.join(failed)}"
        then = f"{_start(against)} stays champion." if kind == "champion" else "There is still no champion."
    else:
        headline = f"Not enough data to tell whether {ours.name} may be promoted"
        then = f"Open: {'; '.join(open_)}. {_more_data(gain, apart, clusters, settings)}".strip()
    return Words(headline=headline, found=found, next=then)


def _sentence(ours: Side, theirs: Side, gain: Difference, settings: GateSettings) -> str:
    own, other = float(ours.hits(FUSED).mean()), float(theirs.hits(FUSED).mean())
    return (
        f"Asked with video and text, {ours.name} has the right track among its first ten for {own:.1%} of "
        f"{gain.queries:,} queries, {theirs.name} for {other:.1%}: {100 * gain.value:+.1f} points, "
        f"{settings.confidence:.0%} interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}."
    )


def _left_out(queries: Queries) -> str:
    if not queries.left_out:
        return ""
    total, ways = len(queries) + len(queries.left_out), Counter(queries.left_out.values())
    told = "; ".join(f"{count}: {way}" for way, count in sorted(ways.items()))
    return f"{len(queries.left_out):,} of {total:,} test clips are not compared on, since a version learnt from them ({told})."


def _unread(side: Side, queries: Queries) -> str:
    lost = [clip for clip in queries.clips if clip in side.unread]
    if not lost:
        return ""
    return (
        f"{_start(side.name)} could not read {len(lost):,} of {len(queries):,} test clips with its own extractors, which count "
        f"as not found (first {lost[0]}: {side.unread[lost[0]]})."
    )


def _more_data(gain: Difference | None, apart: Differences | None, clusters: int, settings: GateSettings) -> str:
    enough = statistics.least_clusters(settings.confidence)
    if clusters < enough:
        by = f"{clusters} artist{'' if clusters == 1 else 's'}"
        return (
            f"The test clips are by {by}; an interval of {settings.confidence:.0%} takes {enough} at least: "
            "add clips of other artists."
        )
    if gain is None or apart is None or apart.detectable is None:
        return ""
    said = f"With these {gain.queries:,} queries by {clusters:,} artists a true gain of {100 * apart.detectable:.1f} points "
    said += f"would be found {settings.power:.0%} of the time"
    if gain.value >= settings.minimum_effect and gain.error > 0:
        wanted = statistics.queries_for(gain.value, gain, settings.confidence, settings.power)
        if wanted > gain.queries:
            artists = _round(round(wanted / gain.queries * clusters))
            said += f"; one of {100 * gain.value:.1f} points, as seen here, takes about {_round(wanted):,} queries "
            said += f"by {artists:,} artists"
    return f"{said}."


def _points(difference: Difference) -> str:
    if (difference.low, difference.high) == (-1, 1):
        return f"{100 * difference.value:+.1f} points, by too few artists for an interval"
    return f"{100 * difference.value:+.1f} points [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _plain(share: float) -> str:
    return f"{100 * share:g} point{'' if share == 0.01 else 's'}"


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]


def _round(number: int) -> int:
    """Two figures are as much as is known."""
    digits = max(0, len(str(number)) - 2)
    return int(round(number, -digits))
