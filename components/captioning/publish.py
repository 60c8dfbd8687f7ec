"""Write the stage's outputs: captions, what was asked and answered, what was refused, and how good it all is."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components import tables
from components.captioning.audit import write_quality
from components.captioning.captioner import QUARANTINED
from components.captioning.completion import STOP
from components.captioning.inputs import Inputs, journal_of
from components.captioning.page import AuditRow
from components.captioning.params import CaptioningParams, Data2TextParams, TagsParams
from components.captioning.progress import Captioned
from components.captioning.prompt import answer, asked
from components.captioning.quality import judge


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
