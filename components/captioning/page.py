"""The page on which a human audits captions: beside their tags, with what the checks made of them."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from components.captioning.audit import AuditRow
from components.captioning.captioner import OK
from components.captioning.wording import plain
from components.modalities import TAG_GROUPS
from components.pages.page import render
from components.taxonomy import Mention, Taxonomy

SAMPLED: Final = 100

_TEMPLATE: Final = Path(__file__).with_name("audit.html")


def sample(rows: Sequence[AuditRow]) -> list[AuditRow]:
    """Return the rows for the audit: drawn by the digest of clip and text, so equal rows give the equal sample."""

    def drawn(row: AuditRow) -> str:
        return hashlib.sha256(f"{row.clip.clip_id}\n{row.text}".encode("utf-8", "surrogatepass")).hexdigest()

    return sorted(rows, key=drawn)[:SAMPLED]


def audit_page(rows: Sequence[AuditRow], of: int, taxonomy: Taxonomy, kind: str) -> str:
    """Return the page, which needs no network and keeps what was entered in the browser.

    Args:
        rows: the captions to show.
        of: how many there are in all.
        taxonomy: finds the tags in the captions.
        kind: of the captioner.
    """
    cards = [_card(row, taxonomy) for row in rows]
    key = hashlib.sha256(json.dumps(cards).encode()).hexdigest()[:16]  # what was entered belongs to these captions
    return render(_TEMPLATE, title="Caption audit", cards=cards, key=key, captioner=kind, of=of)


def _card(row: AuditRow, taxonomy: Taxonomy) -> dict[str, Any]:
    reasons = ", ".join(row.judgement.reasons)
    return {
        "clip": row.clip.clip_id,
        "verdict": row.verdict,
        "attempts": row.attempts,
        "passed": row.verdict == OK and not reasons,
        "badge": (row.verdict + (f": {reasons}" if reasons else "")).replace("_", " "),
        "caption": list(_marked(row, taxonomy)),
        "tags": [(group, list(_chips(group, row))) for group in TAG_GROUPS if row.clip.tags[group]],
        "origin": list(_origin(row)),
    }


def _marked(row: AuditRow, taxonomy: Taxonomy) -> Iterator[tuple[str, str]]:
    """Yield (words, kind) of the whole caption; the kind of words that name no tag is ""."""
    text, end = plain(row.text), 0
    for mention in taxonomy.mentions(text):
        found, mark = _pattern(mention).search(text, end), _mark(mention, row, taxonomy)
        if found and mark:
            yield text[end : found.start()], ""
            yield found[0], mark
            end = found.end()
    yield text[end:], ""


def _mark(mention: Mention, row: AuditRow, taxonomy: Taxonomy) -> str:
    """Return the kind of a mention; "" where it is an ordinary word after all."""
    if mention.negated:
        return "negated"
    if mention.words in row.judgement.hallucinated:
        return "unfounded"
    tags = ((group, name.lower()) for group in TAG_GROUPS for name, _ in row.clip.tags[group])
    return "told" if any(taxonomy.implied(tag) & mention.tags for tag in tags) else ""


def _pattern(mention: Mention) -> re.Pattern[str]:
    """Return what finds a mention's words in the text again: hyphens open, plurals as singulars."""
    singulars = (rf"{re.escape(word)}(?:'?s)?" for word in mention.words.split())
    return re.compile(r"(?<![a-z0-9])" + r"[^a-z0-9&]+".join(singulars) + r"(?![a-z0-9])", re.IGNORECASE)


def _chips(group: str, row: AuditRow) -> Iterator[tuple[str, str, bool]]:
    """Yield (tag, its probability in per cent, whether the caption names it)."""
    for name, probability in row.clip.tags[group]:
        yield name, f"{100 * probability:.0f}", (group, name.lower()) in row.judgement.named


def _origin(row: AuditRow) -> Iterator[tuple[str, str]]:
    """Yield (title, text) of how the caption came about; a text may be empty."""
    judgement = row.judgement
    notes = [f"no tag covers: {', '.join(judgement.hallucinated)}"] if judgement.hallucinated else []
    notes += [f"{one} contradicts {two}" for one, two in judgement.contradictions]
    notes += [f"from an exemplar: {judgement.leak}"] if judgement.leak else []
    yield "What the checks found", "\n".join(notes)
    yield "Prompt", row.prompt
    yield "Raw answer", row.raw
