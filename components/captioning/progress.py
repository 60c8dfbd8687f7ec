"""Captions of earlier runs are kept where nothing that decides them has changed; the others are made.

Where a language model is asked, its completions are kept too: they are what costs. A run that was
stopped finds them in its journal, and a run with other limits of quality judges them anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components import stage, tables
from components.captioning.captioner import (
    NO_TAGS,
    NO_TAGS_TEXT,
    QUARANTINED,
    Attempt,
    Caption,
    Captioner,
    Tagged,
    digest_of,
)
from components.captioning.completion import ERROR

Row = dict[str, Any]


@dataclass(frozen=True)
class Captioned:
    """Every row, every completion behind the rows, and how the rows came about."""

    rows: list[Row]
    completions: list[Row]
    quarantined: list[Row]
    computed: int
    kept: int
    dropped: int


def caption_clips(
    clips: Sequence[Tagged],
    kind: str,
    captioner: Captioner,
    earlier: Path,
    completions: Path,
    uris: Mapping[str, str] | None = None,
) -> Captioned:
    """Caption clips, keeping the rows of the last run whose tags, prompts and captioner are the same.

    Args:
        clips: every wanted clip.
        kind: written into the rows.
        captioner: writes the captions of clips with tags.
        earlier: the table of the last run, if there is one.
        completions: its table of completions, if there is one.
        uris: of the clips, for the quarantine.
    """
    finished, paid = _finished(earlier), _paid(completions)
    missing = {clip.clip_id: clip for clip in _missing(clips, captioner, finished, paid)}
    kept = {clip.clip_id for clip in clips} - set(missing)
    rows = {clip_id: finished[clip_id] for clip_id in kept}
    used = {clip_id: paid.get(clip_id, []) for clip_id in kept}
    refused: list[Row] = []
    for caption in stage.progress(_captions(list(missing.values()), captioner), "captions", len(missing)):
        clip = missing[caption.clip_id]
        used[clip.clip_id] = [_completion_row(attempt, captioner) for attempt in caption.attempts]
        if caption.verdict == QUARANTINED:
            reasons = ", ".join(caption.attempts[-1].reasons)
            detail = f"{len(caption.attempts)} attempts; the last: {reasons}: {caption.text[:200]!r}"
            uri = (uris or {}).get(clip.clip_id, clip.clip_id)
            refused.append(
                {"uri": uri, "stage": "captioning", "reason": caption.attempts[-1].reasons[0], "detail": detail}
            )
        else:
            rows[clip.clip_id] = _row(caption, kind, captioner, clip)
    return Captioned(
        rows=[rows[clip_id] for clip_id in sorted(rows)],
        completions=[row for clip_id in sorted(used) for row in used[clip_id]],
        quarantined=sorted(refused, key=lambda row: str(row["uri"])),
        computed=len(missing) - len(refused),
        kept=len(kept),
        dropped=len(set(finished) - kept - set(missing)),
    )


def missing_clips(clips: Sequence[Tagged], captioner: Captioner, earlier: Path, completions: Path) -> list[Tagged]:
    """Return the clips that ``caption_clips`` would caption, sorted; it keeps the rows of the others."""
    return _missing(clips, captioner, _finished(earlier), _paid(completions))


def read_earlier(path: Path, schema: pa.Schema) -> list[Row]:
    """Return a table's rows; none where there is no table, or one that cannot be read."""
    if not path.exists():
        return []
    try:
        return tables.read_rows(path, schema)
    except (ValueError, OSError, pa.ArrowException):
        return []


def _missing(
    clips: Sequence[Tagged], captioner: Captioner, finished: Mapping[str, Row], paid: Mapping[str, Sequence[Row]]
) -> list[Tagged]:
    def holds(clip: Tagged) -> bool:
        row = finished.get(clip.clip_id)
        if row is None or (row["tag_digest"], row["prompt_version"]) != (clip.digest, captioner.version):
            return False
        tries = row["attempts"] if captioner.model and not clip.is_empty else 0
        answers = paid.get(clip.clip_id, ())
        # A row that stands in for a failure of the server or the memory is tried again.
        whole = len(answers) == tries and all(answer["finish"] != ERROR for answer in answers)
        return whole and row["prompt_digest"] == (captioner.key(clip, tries) if tries else "")

    return sorted((clip for clip in clips if not holds(clip)), key=lambda clip: clip.clip_id)


def _finished(path: Path) -> dict[str, Row]:
    return {row["clip_id"]: row for row in read_earlier(path, tables.CAPTIONS)}


def _paid(path: Path) -> dict[str, list[Row]]:
    paid: dict[str, list[Row]] = {}
    for row in read_earlier(path, tables.COMPLETIONS):
        paid.setdefault(row["clip_id"], []).append(row)
    return paid


def _captions(clips: Sequence[Tagged], captioner: Captioner) -> Iterator[Caption]:
    for clip in clips:
        if clip.is_empty:
            yield Caption(clip.clip_id, NO_TAGS_TEXT, NO_TAGS)
    tagged = [clip for clip in clips if not clip.is_empty]
    if tagged:
        yield from captioner.caption(tagged)


def _sent(caption: Caption) -> str:
    """Return what ``Captioner.key`` would, from the requests that were really sent."""
    return digest_of([attempt.completion.request.digest for attempt in caption.attempts]) if caption.attempts else ""


def _row(caption: Caption, kind: str, captioner: Captioner, clip: Tagged) -> Row:
    last = caption.attempts[-1].completion.request if caption.attempts else None
    return {
        "clip_id": caption.clip_id,
        "text": caption.text,
        "kind": kind,
        "prompt_version": captioner.version,
        "prompt_digest": _sent(caption),
        "exemplar_ids": list(caption.exemplar_ids),
        "tag_digest": clip.digest,
        "model": captioner.model,
        "decoding": last.decoding if last else "",
        "seed": captioner.seed,
        "attempts": len(caption.attempts) or int(caption.verdict != NO_TAGS),
        "verdict": caption.verdict,
    }


def _completion_row(attempt: Attempt, captioner: Captioner) -> Row:
    request = attempt.completion.request
    return {
        "clip_id": request.clip_id,
        "attempt": request.attempt,
        "request": request.digest,
        "model": captioner.model,
        "prefix": request.prefix,
        "suffix": request.suffix,
        "text": attempt.completion.text,
        "finish": attempt.completion.finish,
        "detail": attempt.completion.detail,
        "reasons": list(attempt.reasons),
    }
