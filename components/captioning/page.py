"""The page on which a human audits captions: beside their tags, with what the checks made of them."""

import hashlib
import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

from components.captioning.wording import plain
from components.modalities import TAG_GROUPS
from components.taxonomy import Mention, Taxonomy

if TYPE_CHECKING:
    from components.captioning.audit import AuditRow

SAMPLED: Final = 100

_TEMPLATE: Final = Path(__file__).with_name("audit.html")
_CARD: Final = Template("""
<article class="card" id="c$number" data-clip="$clip" data-automatic="$verdict" data-attempts="$attempts" tabindex="-1">
<header><span class="number">$number</span><code>$clip</code>
<span class="badge $class">$badge</span><span class="quiet">$tries</span></header>
<p class="caption">$caption</p>
<dl class="tags">$tags</dl>
<div class="answer" role="group" aria-label="Your verdict on caption $number">
<button type="button" data-verdict="good">Good <kbd>1</kbd></button>
<button type="button" data-verdict="flawed">Flawed <kbd>2</kbd></button>
<button type="button" data-verdict="wrong">Wrong <kbd>3</kbd></button></div>
$origin</article>
""")


def sample(rows: Sequence["AuditRow"]) -> list["AuditRow"]:
    """Return the rows for the audit: drawn by the digest of clip and text, so equal rows give the equal sample."""

    def drawn(row: "AuditRow") -> str:
        return hashlib.sha256(f"{row.clip.clip_id}\n{row.text}".encode("utf-8", "surrogatepass")).hexdigest()

    return sorted(rows, key=drawn)[:SAMPLED]


def audit_page(rows: Sequence["AuditRow"], of: int, taxonomy: Taxonomy, kind: str) -> str:
    """Return the page, which needs no network and keeps what was entered in the browser.

    Args:
        rows: the captions to show.
        of: how many there are in all.
        taxonomy: finds the tags in the captions.
        kind: of the captioner.
    """
    cards = "".join(_card(number, row, taxonomy) for number, row in enumerate(rows, 1))
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    key = hashlib.sha256(cards.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return template.substitute(cards=cards, key=key, kind=html.escape(kind), shown=len(rows), of=f"{of:,}")


def _card(number: int, row: "AuditRow", taxonomy: Taxonomy) -> str:
    reasons = ", ".join(row.judgement.reasons)
    return _CARD.substitute(
        number=number,
        clip=html.escape(row.clip.clip_id),
        verdict=html.escape(row.verdict),
        attempts=row.attempts,
        **{"class": "pass" if row.verdict == "ok" and not reasons else "fail"},
        badge=html.escape(row.verdict + (f": {reasons}" if reasons else "")).replace("_", " "),
        tries=f"{row.attempts} attempt{'' if row.attempts == 1 else 's'}",
        caption=_marked(row, taxonomy),
        tags="".join(_group(group, row) for group in TAG_GROUPS if row.clip.tags[group]),
        origin=_origin(row),
    )


def _marked(row: "AuditRow", taxonomy: Taxonomy) -> str:
    """Return the caption as HTML, with the words that name tags marked."""
    text, parts, end = plain(row.text), [], 0
    for mention in taxonomy.mentions(text):
        found, mark = _pattern(mention).search(text, end), _mark(mention, row, taxonomy)
        if found and mark:
            parts += [
                html.escape(text[end : found.start()]),
                f'<mark class="{mark}">{html.escape(found[0])}</mark>',
            ]
            end = found.end()
    return "".join(parts) + html.escape(text[end:])


def _mark(mention: Mention, row: "AuditRow", taxonomy: Taxonomy) -> str:
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


def _group(group: str, row: "AuditRow") -> str:
    chips = (
        f'<span class="chip{"" if (group, name.lower()) in row.judgement.named else " missed"}">'
        f"{html.escape(name)} <small>{100 * probability:.0f}</small></span>"
        for name, probability in row.clip.tags[group]
    )
    return f"<dt>{group}</dt><dd>{''.join(chips)}</dd>"


def _origin(row: "AuditRow") -> str:
    return "".join(
        f"<details><summary>{title}</summary><pre>{html.escape(text)}</pre></details>"
        for title, text in _parts(row)
        if text
    )


def _parts(row: "AuditRow") -> Iterator[tuple[str, str]]:
    found = row.judgement
    notes = [f"no tag covers: {', '.join(found.hallucinated)}"] if found.hallucinated else []
    notes += [f"{one} contradicts {two}" for one, two in found.contradictions]
    notes += [f"from an exemplar: {found.leak}"] if found.leak else []
    yield "What the checks found", "\n".join(notes)
    yield "Prompt", row.prompt
    yield "Raw answer", row.raw
