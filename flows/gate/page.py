"""The report as one HTML page that needs nothing else: no network, no script."""

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from flows.gate.charts import by_mode, by_slice
from flows.gate.sides import FUSED

STYLE = Path(__file__).with_name("page.css")
_WORDS = {"passed": "Passed", "failed": "Failed", "inconclusive": "Inconclusive", None: "Comparison"}
_SIGNS = {"passed": "✓ holds", "failed": "✕ does not hold", "inconclusive": "? cannot tell"}
_TEXTS = {
    "annotation": "human descriptions",
    "caption": "machine-written captions",
    "none": "none: no text was at hand",
}


def render(report: dict[str, Any], media: dict[str, str]) -> str:
    """Return the page.

    Args:
        report: of `flows.gate.judge`, with its provenance.
        media: data URIs by clip id, for the examples.
    """
    title = f"{_kind(report)}: {report['words']['headline']}"
    parts = [*_head(report), *_tiles(report), *_checks(report), *_modes(report), *_slices(report)]
    parts += [*_examples(report, media), *_provenance(report)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing is fetched, whatever a name in the report holds.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; media-src data:\">"
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _kind(report: dict[str, Any]) -> str:
    return "Comparison" if report["kind"] == "comparison" else "Gate report"


def _head(report: dict[str, Any]) -> Iterator[str]:
    words, about, verdict = report["words"], report["provenance"], report["verdict"]
    data = report["data"]
    yield f"<header><div><b>needledrop</b> · {_kind(report)}</div>"
    yield f"<span>{escape(about['made'][:16].replace('T', ' '))} UTC · {data['queries']:,} test queries</span></header>"
    yield f'<section class="verdict {verdict or "comparison"}"><div class="word">{_WORDS[verdict]}</div>'
    yield f"<h1>{escape(words['headline'])}</h1>"
    yield from (f"<p>{escape(words[key])}</p>" for key in ("found", "next") if words[key])
    yield "</section>"


def _tiles(report: dict[str, Any]) -> Iterator[str]:
    ours, other, gain = report["challenger"], report["other"], report["modes"].get(FUSED)
    yield '<div class="tiles">'
    for side, kind in ((ours, "ours-ink"), (other, "")):
        if side and FUSED in side["R@10"]:
            found = side["R@10"][FUSED]
            yield _tile(
                side["name"], f"{found['value']:.1%}", f"R@10, interval {found['low']:.1%} to {found['high']:.1%}", kind
            )
    if gain:
        ends = f"points, interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
        yield _tile("difference", f"{100 * gain['value']:+.1f}", ends)
    if report["detectable"] is not None:
        share = f"points: what {gain['queries']:,} queries would show {report['settings']['power']:.0%} of the time"
        yield _tile("smallest difference to be seen", f"{100 * report['detectable']:.1f}", share)
    yield "</div>"


def _tile(name: str, big: str, of: str, kind: str = "") -> str:
    return (
        f'<div class="tile"><div class="of">{escape(name)}</div><div class="big {kind}">{escape(big)}</div>'
        f'<div class="of">{escape(of)}</div></div>'
    )


def _checks(report: dict[str, Any]) -> Iterator[str]:
    if not report["checks"]:
        return
    yield "<h2>What was asked</h2>"
    yield '<p class="note">Every line must hold. One that does not ends in “failed”; one that the data cannot settle ends in '
    yield "“inconclusive”. Brackets are intervals; a point is one query in a hundred.</p>"
    yield "<table><tr><th>Question</th><th>Found</th><th>Limit</th><th>Outcome</th></tr>"
    for check in report["checks"]:
        cells = "".join(f"<td>{escape(check[key])}</td>" for key in ("asks", "found", "limit"))
        yield f'<tr>{cells}<td class="{check["outcome"]}">{_SIGNS[check["outcome"]]}</td></tr>'
    yield "</table>"


def _modes(report: dict[str, Any]) -> Iterator[str]:
    ours, other, data = report["challenger"], report["other"], report["data"]
    yield "<h2>By kind of query</h2>"
    keys = [(ours["name"], "ours"), *([(other["name"], "theirs")] if other else [])]
    named = "".join(f'<span class="key" style="background:var(--{kind})"></span>{escape(name)}' for name, kind in keys)
    yield (
        f"<figure>{by_mode(report)}<figcaption>{named}. Bars are {report['settings']['confidence']:.0%} intervals over artists. Dashed on the left: chance, "
        f"{data['chance']:.1%} in a pool of {data['pool']:,}."
    )
    if report["kind"] == "champion":
        yield "Dashed on the right: the least gain (video and text), and the largest loss that is let pass."
    yield "</figcaption></figure>"


def _slices(report: dict[str, Any]) -> Iterator[str]:
    if not any(one["difference"] for one in report["slices"]):
        return
    least = report["settings"]["least_slice"]
    yield "<h2>By slice</h2>"
    yield f"<figure>{by_slice(report)}<figcaption>Green: better, red: worse, grey: either. Pale slices have fewer than {least} "
    yield "queries and are not judged. Of many slices a few stand out by chance.</figcaption></figure>"


def _examples(report: dict[str, Any], media: dict[str, str]) -> Iterator[str]:
    for name, title in (("wins", "Biggest wins"), ("losses", "Biggest losses")):
        if report["examples"][name]:
            yield f'<h2>{title}</h2><div class="examples">'
            for example in report["examples"][name]:
                yield _example(report, example, media.get(example["clip_id"]))
            yield "</div>"


def _example(report: dict[str, Any], example: dict[str, Any], uri: str | None) -> str:
    kind = "audio" if uri and uri.startswith("data:audio") else "video"
    shown = (
        f'<{kind} controls preload="metadata" src="{escape(uri)}"></{kind}>'
        if uri
        else f'<p class="path">{escape(str(example["uri"] or example["clip_id"]))}</p>'
    )
    asked = f"<p>“{escape(example['text'])}”</p>" if example["text"] else ""
    before, now = (f"{example[f'{side}_rank']:,}" for side in ("theirs", "ours"))
    first = "".join(
        f"<div>{escape(report[side]['name'])} put first: {escape(example[f'{name}_first'])}</div>"
        for side, name in (("challenger", "ours"), ("other", "theirs"))
    )
    return (
        f'<div class="example">{shown}<div class="rank">rank {before} → <span class="ours-ink">{now}</span></div>{asked}'
        f'<div class="note">right answer: {escape(example["title"])}{first}</div></div>'
    )


def _provenance(report: dict[str, Any]) -> Iterator[str]:
    data = report["data"]
    yield '<h2>Where this comes from</h2><div class="columns">'
    for side in ("challenger", "other"):
        if report[side] and report[side]["facts"]:
            yield f"<div><h3>{escape(report[side]['name'])}</h3>{_list(report[side]['facts'].items())}</div>"
    words = {"text_source": _TEXTS.get(data["text_source"], data["text_source"])}
    yield f"<div><h3>Test data</h3>{_list((data | words).items())}</div>"
    yield f"<div><h3>Statistics</h3>{_list((report['provenance'] | {'settings': report['settings_digest']}).items())}</div></div>"
    yield '<p class="note">Metric: R@10 of whole tracks, video to music. Intervals: paired percentile bootstrap of whole '
    yield "clusters of artists, so that clips of one artist count as one piece of evidence.</p>"


def _list(items: Iterable[tuple[str, Any]]) -> str:
    rows = "".join(
        f"<dt>{escape(str(key).replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd>" for key, value in items
    )
    return f"<dl>{rows}</dl>"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    long = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return f"{text[:16]}…" if long else text
