"""The data docs: what was expected and found, in Great Expectations' own words, on one page of ours.

The pages that Great Expectations builds load style sheets, scripts and a logo from other hosts, and contain
the time of the run and random ids: without a network they are bare text, and equal data gives other bytes.
So its renderers give the words here, and our template the page.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

from components.pages.page import render

PAGE: Final = "index.html"
SHOWN: Final = 5
"""Offending values that are shown of each expectation."""

_TEMPLATE: Final = Path(__file__).with_name("docs.html")
_TITLES: Final = {"manifest": "Every clip of the manifest", "corpus": "The corpus as a whole"}
_VALUES: Final = 12  # shown of an expectation's own, such as a set of columns


def write_docs(folder: Path, checked: Mapping[str, Sequence[tuple[Any, dict[str, Any]]]]) -> None:
    """Write the page; equal results give equal bytes.

    Args:
        folder: where it goes, as index.html.
        checked: per suite, each expectation's result as Great Expectations gave it, and as results.json has it.
    """
    suites = [_suite(name, [_row(*one) for one in results]) for name, results in checked.items()]
    page = render(_TEMPLATE, title="Validation of the manifest", verdict=_verdict(suites), suites=suites)
    (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")


def _verdict(suites: list[dict[str, Any]]) -> dict[str, str]:
    outcomes = [row["outcome"] for suite in suites for row in suite["rows"]]
    if failed := outcomes.count("failed"):
        said = f"{failed} critical expectation{'' if failed == 1 else 's'} not met"
        return {"kind": "failed", "word": "Failed", "headline": said}
    if warnings := outcomes.count("warning"):
        said = f"Every critical expectation is met, and {warnings} warning{'' if warnings == 1 else 's'}"
        return {"kind": "inconclusive", "word": "Passed with warnings", "headline": said}
    return {"kind": "passed", "word": "Passed", "headline": f"All {len(outcomes)} expectations are met"}


def _suite(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    rows.sort(key=lambda row: row["outcome"] == "passed")  # stable: what needs a person comes first
    met = sum(row["outcome"] == "passed" for row in rows)
    return {"name": name, "title": _TITLES.get(name, name), "rows": rows, "met": met}


def _row(result: Any, outcome: dict[str, Any]) -> dict[str, Any]:
    from great_expectations.render.renderer.inline_renderer import InlineRenderer

    # A result is rendered as what was found, and then as what was expected.
    rendered: list[Any] = InlineRenderer(render_object=result).get_rendered_content()
    sentences: list[dict[str, Any]] = [one.to_json_dict() for one in rendered]
    expected, found = (
        [one["value"] for one in sentences if one["name"].startswith(f"atomic.{kind}")]
        for kind in ("prescriptive", "diagnostic")
    )
    shown = outcome["error"] is None and outcome["column"] != "table"  # of a table, it would list every column again
    return {
        "expected": [piece for sentence in expected for piece in _pieces(sentence)],
        "found": " ".join(words for sentence in found for words, _ in _pieces(sentence)) if shown else "",
        "note": result.expectation_config.notes,
        "offences": [] if outcome["success"] else list(_offences(result.result)),
        "error": outcome["error"],
        "outcome": "passed" if outcome["success"] else {"critical": "failed"}.get(outcome["severity"], "warning"),
    }


def _pieces(sentence: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield (words, whether they are a value) of a rendered sentence; a long list of values is cut."""
    template, end, values = sentence["template"], 0, 0
    for match in Template.pattern.finditer(template):
        if values < _VALUES or template[end : match.start()].strip():
            yield template[end : match.start()], False
        if values < _VALUES:
            yield _text(sentence["params"][match["named"]]["value"]), True
        values, end = values + 1, match.end()
    if values > _VALUES:
        yield f" and {values - _VALUES} more", False
    yield template[end:], False


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _offences(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (value, the file of its row) of a few rows that are not as expected."""
    rows = found.get("partial_unexpected_index_list") or ()  # numbers where no column names a row
    places = [str(row.get("uri", "")) if isinstance(row, dict) else "" for row in rows] + [""] * SHOWN
    for value, place in zip((found.get("partial_unexpected_list") or ())[:SHOWN], places, strict=False):
        yield json.dumps(value, ensure_ascii=False), "" if place == value else place
