"""The page: our decision first, what it rests on, and a link to Evidently's report beside it."""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np

from components.stage import atomic_file, write_json
from flows.drift import plots
from flows.drift.decide import ALIGNMENT, CLASSIFIER, KS, MMD, SCALARS, SHARES, TAGS, Decision, Family, Prepared
from flows.drift.evidently import table_of, write_evidently
from flows.drift.harm import CAVEAT, mix
from flows.drift.sample import Sample
from flows.drift.stored import Reference
from flows.drift.watch import Finding, as_json

PAGE, EVIDENTLY, FACTS = "index.html", "evidently.html", "monitor.json"
_TEMPLATE = Path(__file__).with_name("page.html")
_NAMES = {"video": "Pictures", "music": "Music", SCALARS: "Media files", TAGS: "Tags", ALIGNMENT: "Alignment"}
_TESTS = {KS: "distributions", MMD: "kernel distance", CLASSIFIER: "told apart", SHARES: "shares"}
_VERDICTS = {
    "drift": ("drift", "The new media have drifted"),
    "no drift": ("none", "No drift"),
    "too few": ("few", "Too few new clips to tell"),
    "refused": ("few", "Not compared"),
}
_SHOWN_TAGS = 8


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
    sections = "\n".join(_sections(reference, prepared, finding, told))
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(title=_title(finding), sections=sections)
    with atomic_file(folder / PAGE) as part:
        part.write_text(text, encoding="utf-8")


def _title(finding: Finding) -> str:
    return f"Needledrop monitor: {_VERDICTS[finding.outcome][1].lower()}"


def _sections(reference: Reference, prepared: Prepared, finding: Finding, told: Told) -> Iterator[str]:
    yield _verdict(finding, told)
    if finding.window is not None and finding.decision is not None:
        yield _table(finding.decision, reference, told)
        yield from _modalities(prepared, finding.window, finding.decision)
        yield from _tags(reference.sample, finding.window, finding.decision)
        yield from _media(prepared.compared, finding.window, finding.decision)
    yield _provenance(reference, finding, told)


def _verdict(finding: Finding, told: Told) -> str:
    kind, title = _VERDICTS[finding.outcome]
    lines = [f'<p class="over">Needledrop monitor · champion version {told.champion}</p>', f"<h1>{title}</h1>"]
    lines.append(f"<p>{_sentence(finding.words)}</p>")
    if told.next:
        lines.append(f"<p><b>Next:</b> {html.escape(told.next).replace('`', '')}.</p>")
    if finding.harm:
        unseen = ""
        if finding.harm.unseen >= 0.005:
            unseen = f" {finding.harm.unseen:.0%} of the window is of genres without a measured recall; they count as the mean."
        lines.append(f"<p><b>Predicted effect on recall:</b> {html.escape(finding.harm.sentence())}.{unseen}</p>")
        lines.append(f'<p class="quiet">{CAVEAT}</p>')
    lines += [f'<p class="quiet">{html.escape(note)}</p>' for note in finding.notes]
    if finding.window is not None:
        lines.append(f'<p><a href="{EVIDENTLY}">Distributions of every measure (Evidently)</a></p>')
    return f'<section class="verdict {kind}">{"".join(lines)}</section>'


def _table(decision: Decision, reference: Reference, told: Told) -> str:
    head = "<tr><th>What</th><th>Tests (chance of as large a difference without drift)</th><th class=n>adjusted p</th><th>verdict</th></tr>"
    rows = "".join(_row(family, decision) for family in decision.families)
    tried = ", ".join(
        f"{row.alarms} of {row.windows} windows of {row.clips} clips" for row in reference.head.calibration
    )
    trial = (
        f"Tried on windows drawn from the reference itself, which have no drift, the decision raised the alarm for {tried}."
        if tried
        else "The reference is too small to try the decision on windows of its own."
    )
    return (
        f"<section><h2>The decision</h2><table>{head}{rows}</table>"
        f'<p class="quiet" style="margin-top:.8rem">A row drifts when its adjusted p is at most {decision.level:.3g}. Pictures and music need two of '
        f"three tests to agree. The level is corrected for the number of rows (Holm), so that media like the reference raise an alarm "
        f"in at most {told.false_alarms:.0%} of windows. {trial}</p></section>"
    )


def _row(family: Family, decision: Decision) -> str:
    parts = []
    for name, test in family.tests.items():
        told = f"{_TESTS[name]} p {_p(test.p)}"
        if name == CLASSIFIER:
            told += f", AUC {test.statistic:.2f}"
        parts.append(told)
    verdict = '<td class="yes">drift</td>' if family.drifted else '<td class="no">no drift</td>'
    return f"<tr><td>{_NAMES[family.name]}</td><td>{'<br>'.join(parts)}</td><td class=n>{_p(family.adjusted)}</td>{verdict}</tr>"


def _modalities(prepared: Prepared, window: Sample, decision: Decision) -> Iterator[str]:
    families = {family.name: family for family in decision.families}
    for name, basis in prepared.bases.items():
        old, new = basis.project(prepared.compared.features[name]), basis.project(window.features[name])
        worst = families[name].tests[KS].worst or 0
        what = families[name].columns[worst]
        two = np.argsort(families[name].tests[KS].each)[::-1][:2]
        cloud = plots.scatter(old[:, two], new[:, two], f"{name}: the two components that differ most")
        shape = plots.densities(old[:, worst], new[:, worst], f"{name}: {what}")
        yield (
            f"<section><h2>{_NAMES[name]}</h2>{_KEY}<div class=pair>"
            f"<figure>{cloud}<figcaption>A dot is a clip, along the two that differ most of {len(basis.axes)} principal components and what they leave out.</figcaption></figure>"
            f"<figure>{shape}<figcaption>Most different of them: {html.escape(what)}, distance {families[name].tests[KS].statistic:.2f} of 1.</figcaption></figure>"
            "</div></section>"
        )


def _tags(reference: Sample, window: Sample, decision: Decision) -> Iterator[str]:
    family = next((one for one in decision.families if one.name == TAGS), None)
    if family is None or not any(window.tags):
        return
    scores = np.array(family.tests[SHARES].each)
    chosen = [family.columns[place] for place in scores.argsort()[::-1][:_SHOWN_TAGS]]
    rows = [
        (tag.partition(":")[2], *(sum(tag in clip for clip in side.tags) / len(side) for side in (reference, window)))
        for tag in chosen
    ]
    genres = {
        name: (mix(reference.tags)[name], mix(window.tags)[name]) for name in mix(window.tags) | mix(reference.tags)
    }
    most = sorted(((name, *shares) for name, shares in genres.items()), key=lambda row: -max(row[1:]))[:_SHOWN_TAGS]
    yield (
        f"<section><h2>Tags</h2>{_KEY}<div class=pair>"
        f"<div class=wide><h3>Changed most</h3>{plots.bars(rows, 'shares of the tags that changed most')}</div>"
        f"<div class=wide><h3>Most probable genre</h3>{plots.bars(most, 'shares of genres')}</div></div></section>"
    )


def _media(reference: Sample, window: Sample, decision: Decision) -> Iterator[str]:
    family = next((one for one in decision.families if one.name == SCALARS), None)
    if family is None:
        return
    rows = ""
    for name, distance in zip(family.columns, family.tests[KS].each, strict=True):
        old, new = (_spread(side.scalars[name]) for side in (reference, window))
        rows += f"<tr><td>{html.escape(name)}</td><td class=n>{old}</td><td class=n>{new}</td><td class=n>{distance:.2f}</td></tr>"
    head = "<tr><th>Measure</th><th class=n>reference</th><th class=n>new clips</th><th class=n>distance</th></tr>"
    yield (
        f"<section><h2>Media files</h2><table>{head}{rows}</table>"
        '<p class="quiet" style="margin-top:.8rem">Median, and the middle half. Distance: 0 equal distributions, 1 no overlap.</p></section>'
    )


def _spread(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "unknown"
    low, middle, high = np.percentile(known, [25, 50, 75])
    if low == high:
        return _number(middle)
    return f"{_number(middle)} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _provenance(reference: Reference, finding: Finding, told: Told) -> str:
    head = reference.head
    unit = "artists" if head.grouping == "artist_id" else "videos"
    rows = {
        "New clips": f"{finding.new} by {finding.groups} {unit}; {finding.gone} clips of the reference are gone",
        "Reference": f"{head.clips} clips of champion version {told.champion}, registered {told.since}; {len(reference.sample)} are kept",
        "Compared": f"{finding.decision.clips[1]} new clips with {finding.decision.clips[0]} of the reference that the components were not fitted on"
        if finding.decision
        else "nothing",
        "Manifest": f"<code>{finding.key}</code> against <code>{head.manifest}</code>",
        "Extractors": ", ".join(
            f"{name} <code>{digest[:12]}</code>" for name, digest in sorted(head.extractors.items())
        ),
    }
    body = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows.items())
    return f"<section><h2>What was compared</h2><dl>{body}</dl></section>"


def _sentence(words: str) -> str:
    words = words.removeprefix("no drift: ").removeprefix("too few new clips to tell: ")
    return html.escape(words[:1].upper() + words[1:]) + "."


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "under 0.001"


_KEY = (
    '<p class="quiet"><span class="key" style="background:var(--old)"></span>reference'
    '<span class="key" style="background:var(--new)"></span>new clips</p>'
)
