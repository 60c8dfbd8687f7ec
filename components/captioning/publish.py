"""The stage's outputs: captions, what was asked and answered, what was refused, how good it all is, and its last words."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from components import tables
from components.captioning.audit import AuditRow, summarise
from components.captioning.captioner import QUARANTINED
from components.captioning.completion import STOP
from components.captioning.inputs import Inputs, journal_of
from components.captioning.page import audit_page, sample
from components.captioning.params import CaptioningParams, Data2TextParams, QualityParams, TagsParams
from components.captioning.progress import Captioned
from components.captioning.prompt import answer, asked
from components.captioning.quality import judge
from components.captioning.suite import check_captions
from components.stage import atomic_folder, write_json
from components.taxonomy import Taxonomy

REPORT: Final = "report.json"
SUITE: Final = "suite.json"
PAGE: Final = "audit.html"


def publish(captioned: Captioned, captions: Path, completions: Path, quarantine: Path) -> None:
    """Write the tables, then forget the journal: its answers are in them."""
    tables.write_rows(completions, captioned.completions, tables.COMPLETIONS, ("clip_id", "attempt"))
    tables.write_rows(quarantine, captioned.quarantined, tables.QUARANTINE)
    tables.write_rows(captions, captioned.rows, tables.CAPTIONS)
    shutil.rmtree(journal_of(captions).parent, ignore_errors=True)


def publish_quality(captioned: Captioned, inputs: Inputs, params: CaptioningParams, folder: Path) -> dict[str, Any]:
    """Judge every caption, kept ones as well, write report and audit page, and return the figures."""
    rows = list(_audited(captioned, inputs, params))
    return write_quality(folder, rows, inputs.taxonomy, params.quality, params.kind)


def write_quality(
    folder: Path, rows: Sequence[AuditRow], taxonomy: Taxonomy, limits: QualityParams, kind: str
) -> dict[str, Any]:
    """Write report.json, suite.json and audit.html, and return the report; equal rows give equal bytes.

    Args:
        folder: replaced as a whole.
        rows: one per clip, in any order.
        taxonomy: finds the tags in the texts that the page shows.
        limits: what is good enough.
        kind: of the captioner.
    """
    rows = sorted(rows, key=lambda row: row.clip.clip_id)
    figures = summarise(rows, limits, kind)
    suite = check_captions(list(_suite_rows(rows)), _suite_figures(figures), limits)
    figures["suite"] = {"passed": suite["passed"], "warnings": suite["warnings"]}
    with atomic_folder(folder) as part:
        write_json(part / REPORT, figures)
        write_json(part / SUITE, suite)
        page = audit_page(sample(rows), len(rows), taxonomy, kind)
        (part / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    return figures


def report(captioned: Captioned, quality: dict[str, Any]) -> None:
    """Print how good the captions are, then rows, how they came about and their verdicts."""
    passed, collection = quality["yield"], quality["collection"]
    if passed["value"] is not None:
        print(
            f"captioning: yield {passed['value']:.1%} [{passed['low']:.1%}, {passed['high']:.1%}] of {passed['of']}, "
            f"tag recall {quality['recall'] or 0.0:.3f}, with terms that no tag covers "
            f"{quality['hallucination_rate'] or 0.0:.1%}, {quality['contradictions']} contradictions, "
            f"{quality['leaks']} leaks, largest cluster {collection['largest_cluster']:.1%}"
        )
    if not quality["suite"]["passed"] or quality["suite"]["warnings"]:
        print(
            "captioning: an expectation of the captions is not met; see suite.json and audit.html in the quality folder"
        )
    verdicts = Counter(row["verdict"] for row in captioned.rows)
    listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    print(
        f"captioning: {len(captioned.rows)} rows, {captioned.computed} computed, {captioned.kept} kept, "
        f"{captioned.dropped} dropped, {len(captioned.quarantined)} quarantined" + (f" ({listed})" if listed else "")
    )


def _audited(captioned: Captioned, inputs: Inputs, params: CaptioningParams) -> Iterator[AuditRow]:
    clips = {clip.clip_id: clip for clip in inputs.clips}
    exemplars = {item.clip.clip_id: item for item in inputs.exemplars}
    last = {row["clip_id"]: row for row in captioned.completions}  # of each clip's attempts
    published = {row["clip_id"] for row in captioned.rows}
    given_up = {"verdict": QUARANTINED, "exemplar_ids": []}
    refused = [
        {"clip_id": clip_id, "text": answer(row["text"]), "attempts": row["attempt"] + 1} | given_up
        for clip_id, row in last.items()
        if clip_id not in published
    ]
    for row in (*captioned.rows, *refused):
        clip = clips[row["clip_id"]]
        if not isinstance(params, TagsParams):
            most = params.max_tags if isinstance(params, Data2TextParams) else params.prompt.max_tags
            clip = asked(clip, most, inputs.taxonomy)
        shown = [exemplars[name] for name in row["exemplar_ids"]]
        answered = last.get(row["clip_id"])
        yield AuditRow(
            clip=clip,
            text=row["text"],
            verdict=row["verdict"],
            attempts=row["attempts"],
            judgement=judge(row["text"], STOP, clip, shown, inputs.taxonomy, params.quality, inputs.names),
            exemplars=tuple(item.text for item in shown),
            prompt=answered["prefix"] + answered["suffix"] if answered else "",
            raw=answered["text"] if answered else "",
        )


def _suite_rows(rows: Sequence[AuditRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.verdict != QUARANTINED:
            yield {
                "clip_id": row.clip.clip_id,
                "text": row.text or None,
                "words": len(row.text.split()),
                "verdict": row.verdict,
                "contradictions": len(row.judgement.contradictions),
                "leaks": int(bool(row.judgement.leak)),
            }


def _suite_figures(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "recall": figures["recall"],
        "yield": figures["yield"]["value"],
        "largest_cluster": figures["collection"]["largest_cluster"],
    }
