"""The report: everything that was found, as plain values, and the verdict in words."""

from dataclasses import dataclass
from typing import Any, Literal

from components.evaluation.metrics import summarise
from flows.gate import rules
from flows.gate.checks import Check, against_champion, first_champion
from flows.gate.examples import examples
from flows.gate.resampling import Difference, Resampling
from flows.gate.rules import Outcome
from flows.gate.settings import GateSettings
from flows.gate.sides import FUSED, MODES, Queries, Side
from flows.gate.slices import Slice, differences

FORMAT = "needledrop.gate/1"
Kind = Literal["champion", "floors", "comparison"]

# What a failed check says of the challenger, after "it".
_WRONG = {
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


@dataclass(frozen=True)
class Found:
    """Differences of two sides.

    Attributes:
        modes: of R@10, ours less theirs, by query mode that both have.
        slices: for video+text.
        worst: between the worst-served slices.
        detectable: smallest true gain for video+text that this data would show; None without texts.
    """

    modes: dict[str, Difference]
    slices: list[Slice]
    worst: Difference | None
    detectable: float | None


def compare(queries: Queries, ours: Side, theirs: Side, resampling: Resampling, settings: GateSettings) -> Found:
    """Return every difference of the two sides."""
    shared = [mode for mode in MODES if mode in ours.ranks and mode in theirs.ranks]
    modes = {mode: resampling.difference(ours.hits(mode), theirs.hits(mode), settings.confidence) for mode in shared}
    if FUSED not in modes:
        return Found(modes, [], None, None)
    slices, worst = differences(queries, ours, theirs, resampling, settings)
    error = modes[FUSED].error
    found = rules.detectable(error, settings.confidence, settings.power, settings.minimum_effect)
    return Found(modes, slices, worst, found)


def judge(queries: Queries, ours: Side, theirs: Side | None, kind: Kind, settings: GateSettings) -> dict[str, Any]:
    """Return the report.

    Args:
        queries: what both were asked.
        ours: the challenger, or the first of two that are compared.
        theirs: the champion; without one, CCA, or None where it cannot be fitted; or the second of two.
        kind: `champion`: a gate against it; `floors`: against the floors of a first champion;
            `comparison`: no gate, only the differences.
        settings: of the gate.

    Raises:
        ValueError: the queries are of one cluster.
    """
    resampling = Resampling(queries.clusters, settings.resamples, settings.seed)
    found = None if theirs is None else compare(queries, ours, theirs, resampling, settings)
    checks: list[Check] = []
    if kind == "champion":
        assert theirs is not None and found is not None  # noqa: S101
        checks = list(against_champion(ours, theirs, found.modes, found.slices, found.worst, settings))
    elif kind == "floors":
        over = found.modes.get(FUSED) if found else None
        checks = list(first_champion(ours, queries, over, resampling, settings))
    verdict = rules.verdict(check.outcome for check in checks) if checks else None
    return {
        "format": FORMAT,
        "kind": kind,
        "verdict": verdict,
        "words": _words(verdict, kind, ours, theirs, found, checks, settings),
        "challenger": _side(ours, resampling, settings),
        "other": None if theirs is None else _side(theirs, resampling, settings),
        "checks": [check.as_json() for check in checks],
        "modes": {mode: one.as_json() for mode, one in found.modes.items()} if found else {},
        "slices": [one.as_json() for one in found.slices] if found else [],
        "detectable": found.detectable if found else None,
        "examples": {"wins": [], "losses": []}
        if theirs is None
        else examples(queries, ours, theirs, settings.examples),
        "data": {
            "test_digest": queries.digest,
            "queries": len(queries),
            "clusters": resampling.clusters,
            "pool": queries.pool,
            "chance": queries.chance,
            "text_source": queries.text_source,
        }
        | dict(queries.data),
        "settings": settings.model_dump(),
        "settings_digest": settings.digest(),
    }


def _side(side: Side, resampling: Resampling, settings: GateSettings) -> dict[str, Any]:
    recall: dict[str, dict[str, float]] = {}
    for mode in (mode for mode in MODES if mode in side.ranks):
        share = resampling.share(side.hits(mode), settings.confidence)
        recall[mode] = {"value": share.value, "low": share.low, "high": share.high}
    return {
        "name": side.name,
        "R@10": recall,
        "median_rank": {mode: summarise(side.ranks[mode])["MedR"] for mode in recall},
        "coverage": dict(side.coverage),
        "facts": dict(side.facts),
    }


def _words(
    verdict: Outcome | None,
    kind: Kind,
    ours: Side,
    theirs: Side | None,
    found: Found | None,
    checks: list[Check],
    settings: GateSettings,
) -> dict[str, Any]:
    """Return a headline, a sentence on what was found, and what to do next."""
    gain = found.modes.get(FUSED) if found else None
    against = theirs.name if theirs else "the floors"
    said = _sentence(ours, theirs, gain, settings) if theirs and gain else ""
    if kind == "comparison":
        return {"headline": f"{_start(ours.name)} against {against}", "found": said, "next": ""}
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
        then = f"Open: {'; '.join(open_)}. {_more_data(gain, found, settings)}".strip()
    return {"headline": headline, "found": said, "next": then}


def _sentence(ours: Side, theirs: Side, gain: Difference, settings: GateSettings) -> str:
    own, other = float(ours.hits(FUSED).mean()), float(theirs.hits(FUSED).mean())
    return (
        f"Asked with video and text, {ours.name} has the right track among its first ten for {own:.1%} of "
        f"{gain.queries:,} queries, {theirs.name} for {other:.1%}: {100 * gain.value:+.1f} points, "
        f"{settings.confidence:.0%} interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}."
    )


def _more_data(gain: Difference | None, found: Found | None, settings: GateSettings) -> str:
    if gain is None or found is None or found.detectable is None:
        return ""
    said = f"With these {gain.queries:,} queries a true gain of {100 * found.detectable:.1f} points would be found "
    said += f"{settings.power:.0%} of the time"
    if gain.value >= settings.minimum_effect and gain.error > 0:
        wanted = rules.queries_for(gain.value, gain, settings.confidence, settings.power)
        if wanted > gain.queries:
            said += f"; one of {100 * gain.value:.1f} points, as seen here, takes about {_round(wanted):,} queries"
    return f"{said}."


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]


def _round(number: int) -> int:
    """Two figures are as much as is known."""
    digits = max(0, len(str(number)) - 2)
    return int(round(number, -digits))
