"""The report as one HTML page that needs nothing else: no network, and no script but for the one that plays its examples."""

import base64
import hashlib
from collections.abc import Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from markupsafe import Markup

from components.pages.page import render as render_page
from flows.gate.charts import by_mode, by_slice
from flows.gate.excerpts import Excerpts, heard
from flows.gate.report import Example, GateReport, Pick

_TEMPLATE: Final = Path(__file__).with_name("page.html")
_SCRIPT: Final = Path(__file__).with_name("page.js")
_WORDS: Final = {"passed": "Passed", "failed": "Failed", "inconclusive": "Inconclusive", None: "Comparison"}
_TEXTS: Final = {
    "annotation": "human descriptions",
    "caption": "machine-written captions",
    "none": "none: no text was at hand",
}


def render(report: GateReport, media: Excerpts) -> str:
    """Return the page.

    Args:
        report: what it shows.
        media: what it plays with the examples.
    """
    kind = "Comparison" if report.kind == "comparison" else "Gate report"
    source = report.data.text_source
    script = f"\n{_SCRIPT.read_text(encoding='utf-8')}"
    return render_page(
        _TEMPLATE,
        title=f"{kind}: {report.words.headline}",
        kind=kind,
        word=_WORDS[report.verdict],
        report=report,
        media=media,
        choices_of=partial(
            _choices, ours=report.challenger.name, other=report.other.name if report.other else "", sounds=media.sounds
        ),
        titles=_titles(report, media.sounds),
        script=Markup(script),  # noqa: S704 - our own file
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        by_mode=by_mode(report),
        by_slice=by_slice(report),
        data=report.data.model_dump(exclude={"left_out"}) | {"text_source": _TEXTS.get(source, source)},
        statistics=report.provenance.model_dump() | {"settings": report.settings_digest},
    )


@dataclass(frozen=True)
class Choice:
    """A sound that can be chosen for an example's picture."""

    pick: Pick
    name: str
    title: str
    right: bool


def _choices(example: Example, ours: str, other: str, sounds: Container[str]) -> list[Choice]:
    """Return what can be heard with an example's picture: either side's pick, and the track that is its own."""
    picks = {ours: (example.ours_pick, example.ours_first, example.ours_rank == 1)}
    if example.ours_pick is not None and example.ours_pick == example.theirs_pick:
        picks = {"both": picks[ours]}
    else:
        picks[other] = (example.theirs_pick, example.theirs_first, example.theirs_rank == 1)
    choices = [
        Choice(pick, f"pick of {name}", title, right)
        for name, (pick, title, right) in picks.items()
        if pick is not None
    ]
    if not any(choice.right for choice in choices):
        choices.append(Choice(heard(example)[-1], "its own track", example.title, True))
    return [choice for choice in choices if choice.pick.clip_id in sounds]


def _titles(report: GateReport, sounds: Container[str]) -> dict[str, str]:
    """Return the titles of what can be heard, by clip id."""
    titles = {}
    for example in (*report.examples.wins, *report.examples.losses):
        for pick, title in ((example.ours_pick, example.ours_first), (example.theirs_pick, example.theirs_first)):
            if pick is not None:
                titles[pick.clip_id] = title
        titles[example.clip_id] = example.title
    return {clip: title for clip, title in titles.items() if clip in sounds}
