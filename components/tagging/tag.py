"""Tag clips, computing only what an earlier run has not."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components import tables
from components.modalities import TAG_GROUPS
from components.store import FeatureStore
from components.tagging.examples import pooled
from components.tagging.probe import Tagger

# The key tells a later run whether a row still holds; readers of the table do not need it.
KEYED_TAGS = tables.TAGS.append(pa.field("key", pa.string(), nullable=False))

_DECIMALS = 6  # of a probability; more would be rounding noise


@dataclass(frozen=True)
class Tagged:
    """Every row, and how it came about."""

    rows: list[dict[str, Any]]
    computed: int
    kept: int
    dropped: int
    without_features: int


def read_clip_ids(manifest: Path) -> list[str]:
    """Return the ids of the manifest's clips."""
    clip_ids: list[str] = tables.read_table(manifest, tables.MANIFEST).column("clip_id").to_pylist()
    return clip_ids


def tag_clips(
    clip_ids: Sequence[str], music: FeatureStore, tagger: Tagger, digest: str, threshold: float, earlier: Path
) -> Tagged:
    """Tag the clips that have features.

    Args:
        clip_ids: the manifest's clips.
        music: their features.
        tagger: what tags them.
        digest: of the tagger and all its settings.
        threshold: least probability of a tag that is kept.
        earlier: the table of the last run, if there is one; its rows are kept where nothing changed.
    """
    wanted = sorted(clip_id for clip_id in clip_ids if clip_id in music)
    keys = dict(zip(music.clip_ids, music.keys, strict=True))
    key_of = {clip_id: hashlib.sha256(f"{digest}:{keys[clip_id]}".encode()).hexdigest() for clip_id in wanted}
    before = {row["clip_id"]: row for row in _earlier_rows(earlier)}
    kept = {clip_id: before[clip_id] for clip_id in wanted if before.get(clip_id, {}).get("key") == key_of[clip_id]}
    missing = [clip_id for clip_id in wanted if clip_id not in kept]
    computed = {
        clip_id: {"clip_id": clip_id, "tags": kept_tags(row, tagger, threshold), "key": key_of[clip_id]}
        for clip_id, row in zip(missing, tagger.probabilities(pooled(music, missing)), strict=True)
    }
    return Tagged(
        rows=[kept.get(clip_id) or computed[clip_id] for clip_id in wanted],
        computed=len(computed),
        kept=len(kept),
        dropped=len(set(before) - set(wanted)),
        without_features=len(clip_ids) - len(wanted),
    )


def kept_tags(probabilities: NDArray[np.float64], tagger: Tagger, threshold: float) -> list[dict[str, Any]]:
    """Return one clip's tags from ``threshold`` on: groups in their order, likeliest first in each."""
    tags = [
        {"group": group, "name": name, "probability": round(float(probability), _DECIMALS)}
        for (group, name), probability in zip(tagger.tags, probabilities, strict=True)
        if probability >= threshold
    ]
    return sorted(tags, key=lambda tag: (TAG_GROUPS.index(tag["group"]), -tag["probability"], tag["name"]))


def _earlier_rows(path: Path) -> list[dict[str, Any]]:
    """Return the last run's rows; none where there is no table, or one that cannot be read."""
    if not path.exists():
        return []
    try:
        return tables.read_rows(path, KEYED_TAGS)
    except (ValueError, OSError, pa.ArrowException):
        return []
