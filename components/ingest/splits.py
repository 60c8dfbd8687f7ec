"""Splits that share no video, track, artist or recording, and that hold still when clips are added."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from components.ingest.params import Splits

SPLITS: Final = ("train", "val", "test")


def linked(
    count: int, pairs: Iterable[tuple[int, int]], labels: Iterable[Sequence[str | None]] = ()
) -> list[list[int]]:
    """Return the groups of items 0..n-1 that must not be torn apart, each ascending, in the order of their firsts.

    Args:
        count: n items.
        pairs: items that belong together.
        labels: any number of columns of n labels; items with an equal one belong together, None joins nothing.
    """
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(count))
    for column in labels:
        first: dict[str, int] = {}
        for item, label in enumerate(column):
            if label is not None:
                groups.merge(item, first.setdefault(label, item))
    for one, other in pairs:
        groups.merge(one, other)
    return [sorted(group) for group in groups.subsets()]


def assign(
    clips: Sequence[Mapping[str, Any]],
    same_sound: Iterable[tuple[int, int]],
    splits: Splits,
    told: Sequence[str | None] = (),
    held: Sequence[str | None] = (),
) -> list[str]:
    """Return the split of each clip.

    Clips with a common video_id, track_id or artist_id, or with the same sound, form a group. A group's
    split is read off a seeded hash of its name, so a new group never moves another; the counts therefore
    only approach the shares. The name is the smallest of the given artist ids, else track ids, else video
    ids, else file digests, so a new clip of a known artist does not move that artist's group either.

    Where the descriptions tell a split, as a published test set does, the group takes it; of several the
    one furthest from training. Published sets rarely tell a val split, so what is told to be ``train`` is
    drawn to train or val by their shares, and never to test.

    Else a group takes the split that clips of it had before; where these are several, each of them keeps its own.

    Args:
        clips: mappings with video_id, track_id, artist_id (None where unknown) and sha256.
        same_sound: pairs of indices.
        splits: shares and seed.
        told: the split that was told of each clip, None where none was; empty where of no clip.
        held: the split that each clip had before, None where it is new; empty where all are.
    """
    labels = [[clip[key] for clip in clips] for key in ("video_id", "track_id", "artist_id")]
    result = [""] * len(clips)
    for members in linked(len(clips), same_sound, labels):
        known = {told[i] for i in members} if told else set()
        before = [split for i in members if (split := held[i])] if held else []
        furthest = next((split for split in ("test", "val") if split in known), None)
        share = _share(_name([clips[i] for i in members]), splits)
        drawn = _draw(share * (splits.train + splits.val) if "train" in known else share, splits)
        for i in members:
            own = (held[i] or before[0]) if before else drawn  # beside several splits there is no new one
            result[i] = furthest or own
    return result


def check_counts(manifest: Iterable[Mapping[str, Any]], splits: Splits) -> None:
    """Refuse a corpus that is too small to train or evaluate on.

    Raises:
        ValueError: says for each split how many clips there are and how many are needed.
    """
    counts = dict.fromkeys(SPLITS, 0)
    for clip in manifest:
        counts[clip["split"]] += 1
    needed = {"train": splits.min_train, "val": splits.min_val, "test": splits.min_test}
    if any(counts[split] < needed[split] for split in SPLITS):
        found = ", ".join(f"{split} {counts[split]} of {needed[split]} needed" for split in SPLITS)
        raise ValueError(
            f"too few clips to train or evaluate: {found}; add media, see the quarantine for refused files, "
            "or change ingest.splits (shares, seed, min_train, min_val, min_test)"
        )


def _name(group: list[Mapping[str, Any]]) -> str:
    for key in ("artist_id", "track_id", "video_id"):
        known = [str(clip[key]) for clip in group if clip[key] is not None]
        if known:
            return f"{key}={min(known)}"
    return f"sha256={min(str(clip['sha256']) for clip in group)}"


def _share(name: str, splits: Splits) -> float:
    """Return a number from 0 to 1, read off a seeded hash of a group's name."""
    digest = hashlib.sha256(f"{splits.seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _draw(share: float, splits: Splits) -> str:
    if share < splits.train:
        return "train"
    return "val" if share < splits.train + splits.val else "test"
