"""From scores to tags: several labels to one tag, calibrated, cut at the thresholds; and the tables of both."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components import tables
from components.modalities import TAG_GROUPS
from components.tagging.calibration import calibrated
from components.tagging.folder import partial_of, save_tagger
from components.tagging.params import TaggingParams, Thresholds
from components.tagging.progress import Scored
from components.tagging.tagger import Fitted
from components.taxonomy import Tag

# The key tells a later run whether a row still holds; readers of the table do not need it.
KEYED_SCORES = tables.TAG_SCORES.append(pa.field("key", pa.string(), nullable=False))


@dataclass(frozen=True)
class Outputs:
    """The files of the stage."""

    tags: Path
    scores: Path
    quarantine: Path
    tagger: Path


def tag_rows(scored: Scored, fitted: Fitted, thresholds: Thresholds) -> list[dict[str, Any]]:
    """Return rows of `tables.TAGS`: a tag's probability is that of its likeliest label."""
    tags = fitted.vocabulary.tags
    probabilities = calibrated(fitted.vocabulary.of_tags(scored.scores), [group for group, _ in tags], fitted.lines)
    return [
        {"clip_id": clip_id, "tags": kept_tags(row, tags, thresholds)}
        for clip_id, row in zip(scored.clip_ids, probabilities, strict=True)
    ]


def kept_tags(probabilities: NDArray[np.float64], tags: Sequence[Tag], thresholds: Thresholds) -> list[dict[str, Any]]:
    """Return one clip's tags from their group's threshold on: groups in their order, likeliest first in each."""
    kept = [
        {"group": group, "name": name, "probability": float(probability)}
        for (group, name), probability in zip(tags, probabilities, strict=True)
        if probability >= getattr(thresholds, group)
    ]
    return sorted(kept, key=lambda tag: (TAG_GROUPS.index(tag["group"]), -tag["probability"], tag["name"]))


def scores_table(scored: Scored, fitted: Fitted) -> pa.Table:
    """Return `tables.TAG_SCORES` with keys: an entry for each label and tag that belong together."""
    entries = fitted.vocabulary.entries
    labels = [fitted.vocabulary.labels[at] for at, _ in entries]
    groups = [tag and tag[0] for _, tag in entries]
    scores = scored.scores[:, [at for at, _ in entries]]
    rows = len(scored.clip_ids)
    fields = KEYED_SCORES.field("scores").type.value_type
    columns = {
        "label": pa.array(labels * rows, pa.string()),
        "group": pa.array(groups * rows, pa.string()),
        "name": pa.array([tag and tag[1] for _, tag in entries] * rows, pa.string()),
        "score": pa.array(scores.ravel()),
        "probability": pa.array(calibrated(scores, groups, fitted.lines).ravel()),
    }
    values = pa.StructArray.from_arrays([columns[field.name] for field in fields], fields=list(fields))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * len(entries), pa.int32()), values)
    return pa.Table.from_arrays(
        [pa.array(scored.clip_ids, pa.string()), lists, pa.array(scored.keys, pa.string())], schema=KEYED_SCORES
    )


def read_scores(path: Path) -> dict[str, tuple[str, NDArray[np.float64]]]:
    """Return key and scores (L,) of each clip of the last run; none where there is no table, or a damaged one."""
    if not path.exists():
        return {}
    try:
        table = tables.read_table(path, KEYED_SCORES)
        clip_ids, keys = table.column("clip_id").to_pylist(), table.column("key").to_pylist()
        lists = table.column("scores").combine_chunks()
        # Every row has the same labels in the same order; where one stands for several tags, it repeats.
        listed = [entry["label"] for entry in lists[0].as_py()] if clip_ids else []
        firsts = [at for at, label in enumerate(listed) if label not in listed[:at]]
        values = lists.flatten().field("score").to_numpy(zero_copy_only=False).reshape(len(clip_ids), len(listed))
    except (ValueError, OSError, pa.ArrowException):
        return {}
    return dict(zip(clip_ids, zip(keys, values[:, firsts], strict=True), strict=True))


def publish(scored: Scored, fitted: Fitted, params: TaggingParams, outputs: Outputs) -> list[dict[str, Any]]:
    """Write every file, then forget the shards; return the rows of tags."""
    rows = tag_rows(scored, fitted, params.thresholds)
    save_tagger(fitted, params, outputs.tagger)
    tables.write_table(outputs.scores, scores_table(scored, fitted))
    tables.write_rows(outputs.tags, rows, tables.TAGS)
    tables.write_rows(
        outputs.quarantine, [*fitted.refused, *scored.refused], tables.QUARANTINE, ("uri", "reason", "detail")
    )
    for output in (outputs.scores, outputs.tagger):
        shutil.rmtree(partial_of(output), ignore_errors=True)
    return rows
