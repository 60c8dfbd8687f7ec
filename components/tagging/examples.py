"""Inputs of the tagger: one row of numbers per clip, and the seed library's labels."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.modalities import TAG_GROUPS
from components.store import FeatureStore, segment_mean, segment_spread
from components.taxonomy import Tag

MIN_TRACKS = 10  # of a seed library that can be cross-validated at all

_BATCH = 4096  # clips pooled at once


@dataclass(frozen=True)
class Examples:
    """N tracks of the seed library with P pooled features and T tags."""

    clip_ids: list[str]
    features: NDArray[np.float64]  # (N, P)
    tags: list[Tag]  # in the order of the groups, then by name
    labels: NDArray[np.bool_]  # (N, T)
    left_out: list[tuple[Tag, int]]  # tags with too few tracks, and how many those were


def pooled(store: FeatureStore, clip_ids: Sequence[str]) -> NDArray[np.float64]:
    """Return (N, 2 D): mean and standard deviation of each feature over a clip's valid segments."""
    rows = []
    for first in range(0, len(clip_ids), _BATCH):
        given = store.gather(clip_ids[first : first + _BATCH])
        rows.append(np.hstack([segment_mean(*given), segment_spread(*given)]))
    return np.vstack(rows) if rows else np.zeros((0, 2 * int(store.spec["dims"])))


def seed_examples(seed: Iterable[Mapping[str, Any]], store: FeatureStore, min_examples: int) -> Examples:
    """Return the seed library's tracks that have features, with the tags that enough of them carry.

    Raises:
        ValueError: a tag is in a group that does not exist.
    """
    rows = sorted((row for row in seed if row["clip_id"] in store), key=lambda row: row["clip_id"])
    clip_ids: list[str] = [row["clip_id"] for row in rows]
    carried = [{(tag["group"], tag["name"]) for tag in row["tags"]} for row in rows]
    for row, tags in zip(rows, carried, strict=True):
        for group, name in sorted(tags):
            if group not in TAG_GROUPS:
                raise ValueError(
                    f"seed library: {row['uri']}: tag '{name}' is in group '{group}'; groups are {', '.join(TAG_GROUPS)}"
                )
    counts = Counter(tag for tags in carried for tag in tags)
    known = sorted(counts, key=lambda tag: (TAG_GROUPS.index(tag[0]), tag[1]))
    # A tag that every track carries, or all but a few, cannot be learnt either.
    enough = [tag for tag in known if min(counts[tag], len(rows) - counts[tag]) >= min_examples]
    labels = np.array([[tag in tags for tag in enough] for tags in carried], bool).reshape(len(rows), len(enough))
    left_out = [(tag, counts[tag]) for tag in known if tag not in enough]
    return Examples(clip_ids, pooled(store, clip_ids), enough, labels, left_out)


def fold_of(clip_ids: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Return (N,) fold numbers of nearly equal size; a track's place depends on ids and seed alone."""
    order = sorted(range(len(clip_ids)), key=lambda at: hashlib.sha256(f"{seed}:{clip_ids[at]}".encode()).digest())
    fold = np.empty(len(clip_ids), np.int64)
    fold[order] = np.arange(len(clip_ids)) % folds
    return fold


def open_stores(music: Path, seed: Path) -> tuple[FeatureStore, FeatureStore]:
    """Open the music features of the clips and of the seed library.

    Raises:
        ValueError: a store is damaged, or the two were made by different extractors.
    """
    stores = FeatureStore.open(music), FeatureStore.open(seed)
    if stores[0].digest != stores[1].digest:
        raise ValueError(f"{seed} and {music} were made by different extractors; run the features stages again")
    return stores
