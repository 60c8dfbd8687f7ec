"""The report as one HTML page that needs nothing else: no network, no script."""

from pathlib import Path
from typing import Final

from components.pages.page import render as render_page
from flows.gate.charts import by_mode, by_slice
from flows.gate.report import GateReport

_TEMPLATE: Final = Path(__file__).with_name("page.html")
_WORDS: Final = {"passed": "Passed", "failed": "Failed", "inconclusive": "Inconclusive", None: "Comparison"}
_TEXTS: Final = {
    "annotation": "human descriptions",
    "caption": "machine-written captions",
    "none": "none: no text was at hand",
}


def render(report: GateReport, media: dict[str, str]) -> str:
    """Return the page.

    Args:
        report: what it shows.
        media: data URIs by clip id, for the examples.
    """
    kind = "Comparison" if report.kind == "comparison" else "Gate report"
    source = report.data.text_source
    return render_page(
        _TEMPLATE,
        title=f"{kind}: {report.words.headline}",
        kind=kind,
        word=_WORDS[report.verdict],
        report=report,
        media=media,
        by_mode=by_mode(report),
        by_slice=by_slice(report),
        data=report.data.model_dump(exclude={"left_out"}) | {"text_source": _TEXTS.get(source, source)},
        statistics=report.provenance.model_dump() | {"settings": report.settings_digest},
    )
