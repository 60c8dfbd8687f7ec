"""How good the captions are, all of them in figures, and a hundred of them for a human to read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any, Final

from components.captioning.captioner import NO_TAGS, OK, QUARANTINED
from components.captioning.collection import describe_collection
from components.captioning.page import AuditRow, audit_page, sample
from components.captioning.params import QualityParams
from components.captioning.suite import check_captions
from components.stage import atomic_folder, write_json
from components.taxonomy import Taxonomy

REPORT: Final = "report.json"
SUITE: Final = "suite.json"
PAGE: Final = "audit.html"

_CONFIDENCE: Final = 0.95


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
    report = summarise(rows, limits, kind)
    suite = check_captions(list(_suite_rows(rows)), _suite_figures(report), limits)
    report["suite"] = {"passed": suite["passed"], "warnings": suite["warnings"]}
    with atomic_folder(folder) as part:
        write_json(part / REPORT, report)
        write_json(part / SUITE, suite)
        page = audit_page(sample(rows), len(rows), taxonomy, kind)
        (part / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    return report


def summarise(rows: Sequence[AuditRow], limits: QualityParams, kind: str) -> dict[str, Any]:
    """Return the figures of all captions.

    The yield is the share of clips with tags for which the captioner itself wrote a caption that passed
    every check. What follows it is of published captions that tell tags, templates' sentences included.
    Figures are None where there is nothing to count.
    """
    asked = [row for row in rows if row.verdict != NO_TAGS]
    passed = sum(row.verdict == OK and not row.judgement.reasons for row in asked)
    judged = [row.judgement for row in asked if row.verdict != QUARANTINED]
    low, high = wilson(passed, len(asked))
    return {
        "kind": kind,
        "rows": len(rows),
        "verdicts": _counts(row.verdict for row in rows),
        "yield": {"value": _share(passed, len(asked)), "low": round(low, 6), "high": round(high, 6), "of": len(asked)},
        "attempts": _counts(str(row.attempts) for row in asked),
        "recall": round(fmean(each.recall for each in judged), 6) if judged else None,
        "hallucination_rate": _share(sum(bool(each.hallucinated) for each in judged), len(judged)),
        "hallucinated_terms": _share(sum(len(each.hallucinated) for each in judged), len(judged)),
        "contradictions": sum(bool(each.contradictions) for each in judged),
        "leaks": sum(bool(each.leak) for each in judged),
        "reasons": _counts(reason for each in judged for reason in each.reasons),
        "collection": describe_collection([row.text for row in asked if row.verdict != QUARANTINED], limits),
    }


def wilson(successes: int, n: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson, 1927); (0, 1) where nothing was tried.

    Unlike the normal approximation it stays within 0 and 1 and has its coverage for few trials too.

    Raises:
        ValueError: successes are fewer than 0 or more than the trials, or confidence is not in (0, 1).
    """
    if not (0 <= successes <= n and 0 < confidence < 1):
        raise ValueError(f"wilson: {successes} successes of {n} at confidence {confidence}: not possible")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = successes / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = (share * (1 - share) * weight + weight * weight / 4) ** 0.5 / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


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


def _suite_figures(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "recall": report["recall"],
        "yield": report["yield"]["value"],
        "largest_cluster": report["collection"]["largest_cluster"],
    }


def _counts(values: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
