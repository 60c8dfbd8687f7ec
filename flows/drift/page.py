"""The page: our decision first, what it rests on, and a link to Evidently's report beside it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.pages.page import render
from components.stage import atomic_file, write_json
from flows.drift import plots
from flows.drift.compare import Finding, as_json
from flows.drift.decide import ALIGNMENT, CLASSIFIER, KS, MMD, SCALARS, SHARES, TAGS, Decision, Family, Prepared
from flows.drift.evidently import table_of, write_evidently
from flows.drift.harm import CAVEAT, mix
from flows.drift.sample import Sample
from flows.drift.stored import Reference

PAGE, EVIDENTLY, FACTS = "index.html", "evidently.html", "monitor.json"
_TEMPLATE: Final = Path(__file__).with_name("page.html")
_NAMES: Final = {"video": "Pictures", "music": "Music", SCALARS: "Media files", TAGS: "Tags", ALIGNMENT: "Alignment"}
_TESTS: Final = {KS: "distributions", MMD: "kernel distance", CLASSIFIER: "told apart", SHARES: "shares"}
_VERDICTS: Final = {
    "drift": {"kind": "failed", "word": "Drift", "headline": "The new media have drifted"},
    "no drift": {"kind": "passed", "word": "No drift", "headline": "The new media are like those of the champion"},
    "too few": {"kind": "inconclusive", "word": "Too few", "headline": "Too few new clips to tell"},
    "refused": {"kind": "inconclusive", "word": "Refused", "headline": "Not compared"},
}
_SHOWN_TAGS: Final = 8


@dataclass(frozen=True)
class Told:
    """What the page says beside the finding.

    Attributes:
        champion: its version. since: when it was registered.
        false_alarms: the rate that the decision keeps.
        next: what happens next; empty for nothing.
    """

    champion: int
    since: str
    false_alarms: float
    next: str


def write_report(folder: Path, reference: Reference, finding: Finding, told: Told) -> None:
    """Write the page, Evidently's report where there is a window, and every figure as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared = reference.prepared()
    if finding.window is not None:
        words = f"{len(finding.window)} new clips (current) against the media of champion version {told.champion} (reference)."
        write_evidently(
            folder / EVIDENTLY,
            table_of(reference.sample, prepared.bases),
            table_of(finding.window, prepared.bases),
            f"{words} For reading: the decision is on the page beside it ({PAGE}).",
        )
    write_json(folder / FACTS, as_json(finding))
    with atomic_file(folder / PAGE) as part:
        part.write_text(_page(reference, prepared, finding, told), encoding="utf-8")


def _page(reference: Reference, prepared: Prepared, finding: Finding, told: Told) -> str:
    verdict, window, decision = _VERDICTS[finding.outcome], finding.window, finding.decision
    words = finding.words.removeprefix("no drift: ").removeprefix("too few new clips to tell: ")
    shown: dict[str, Any] = {"decision": None}
    if window is not None and decision is not None:
        shown = {
            "decision": _decision(decision, reference),
            "modalities": list(_modalities(prepared, window, decision)),
            "tags": _tags(reference.sample, window, decision),
            "media": list(_media(prepared.compared, window, decision)),
        }
    return render(
        _TEMPLATE,
        title=f"Needledrop monitor: {verdict['headline'].lower()}",
        verdict=verdict,
        sentence=f"{words[:1].upper()}{words[1:]}.",
        told=told,
        finding=finding,
        caveat=CAVEAT,
        evidently=EVIDENTLY if window is not None else None,
        head=reference.head,
        kept=len(reference.sample),
        unit="artists" if reference.head.grouping == "artist_id" else "videos",
        **shown,
    )


def _decision(decision: Decision, reference: Reference) -> dict[str, Any]:
    def row(family: Family) -> dict[str, Any]:
        tests = [
            {"name": _TESTS[name], "p": _p(test.p), "auc": test.statistic if name == CLASSIFIER else None}
            for name, test in family.tests.items()
        ]
        shown = {"name": _NAMES[family.name], "tests": tests}
        return shown | {"adjusted": _p(family.adjusted), "drifted": family.drifted}

    families = [row(family) for family in decision.families]
    return {"families": families, "level": decision.level, "tried": reference.head.calibration}


def _modalities(prepared: Prepared, window: Sample, decision: Decision) -> Iterator[dict[str, Any]]:
    families = {family.name: family for family in decision.families}
    for name, basis in prepared.bases.items():
        old, new = basis.project(prepared.compared.features[name]), basis.project(window.features[name])
        test = families[name].tests[KS]
        worst = test.worst or 0
        what = families[name].columns[worst]
        two = np.argsort(test.each)[::-1][:2]
        yield {
            "name": _NAMES[name],
            "cloud": plots.scatter(old[:, two], new[:, two], f"{name}: the two components that differ most"),
            "shape": plots.densities(old[:, worst], new[:, worst], f"{name}: {what}"),
            "components": len(basis.axes),
            "worst": what,
            "distance": test.statistic,
        }


def _tags(reference: Sample, window: Sample, decision: Decision) -> dict[str, Any] | None:
    family = next((one for one in decision.families if one.name == TAGS), None)
    if family is None or not any(window.tags):
        return None
    order = np.array(family.tests[SHARES].each).argsort()[::-1]
    changed = [
        (tag.partition(":")[2], *(sum(tag in clip for clip in side.tags) / len(side) for side in (reference, window)))
        for tag in (family.columns[place] for place in order[:_SHOWN_TAGS])
    ]
    before, after = mix(reference.tags), mix(window.tags)
    genres = sorted(((name, before[name], after[name]) for name in before | after), key=lambda row: -max(row[1:]))
    return {
        "changed": plots.bars(changed, "shares of the tags that changed most"),
        "genres": plots.bars(genres[:_SHOWN_TAGS], "shares of genres"),
    }


def _media(reference: Sample, window: Sample, decision: Decision) -> Iterator[dict[str, Any]]:
    family = next((one for one in decision.families if one.name == SCALARS), None)
    if family is not None:
        for name, distance in zip(family.columns, family.tests[KS].each, strict=True):
            yield {
                "name": name,
                "reference": _spread(reference.scalars[name]),
                "window": _spread(window.scalars[name]),
                "distance": distance,
            }


def _spread(values: NDArray[np.float64]) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "unknown"
    low, middle, high = np.percentile(known, [25, 50, 75])
    if low == high:
        return _number(middle)
    return f"{_number(middle)} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "under 0.001"
