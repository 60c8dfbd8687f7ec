"""Splits hold still: what a clip was once trained or tested on, it stays, whatever comes beside it.

Groups alone cannot see to that. A compilation that sounds like clips of two artists makes one group of them, and one of
the two would change sides. So the stage keeps what it said of every clip that it ever saw, reads it when it runs again,
and leaves out a newcomer that belongs to both sides. A clip that is gone still holds the place of its artist.

A split changes by a word only: other shares or another seed in `params.yaml`, or a description that tells a split.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components.ingest.params import Splits
from components.ingest.splits import assign
from components.tables import SPLITS, read_rows

log = logging.getLogger(__name__)

Row = dict[str, Any]
_FIRST: Final = "first seen"
_SETTINGS: Final = "ingest.splits has other shares or another seed"
_TOLD: Final = "a description tells it, of this clip or of one that belongs with it"
_NAMED: Final = 5  # clips that a line of the log names


@dataclass(frozen=True)
class Item:
    """One clip as its group sees it.

    Attributes:
        clip_id: of the file's content.
        keys: what it shares with the clips that belong with it, as digests.
        held: the split that it has; None of a new one.
        told: the split that the descriptions tell of it.
    """

    clip_id: str
    keys: tuple[str, ...]
    held: str | None = None
    told: str | None = None


def read_history(path: Path) -> list[Row]:
    """Return rows of `tables.SPLITS`; none before the first run.

    Raises:
        ValueError: the table is damaged; the message says what to do.
    """
    if not path.is_file():
        return []
    try:
        return read_rows(path, SPLITS)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path}: the history of the splits cannot be read ({error}); restore it with `dvc checkout {path}`: "
            "without it clips may change sides"
        ) from None


def place(
    clips: Sequence[Mapping[str, Any]],
    same_sound: Iterable[tuple[int, int]],
    splits: Splits,
    told: Sequence[str | None],
    history: Iterable[Row],
) -> tuple[list[str | None], dict[int, str], list[Row]]:
    """Return the split of each clip; of refused ones None, and why; and the history for the next run.

    A clip that has a split keeps it. A new one joins the group that it is linked to (see `splits.assign`), unless that
    would join two sides: then it is refused. New ones are taken in order of their ids, so the result does not depend on
    the order of the files. Two clips that had splits before they turned out to belong together keep them.

    Args:
        clips: mappings with clip_id, video_id, track_id, artist_id (None where unknown), video (its name in any case)
            and sha256.
        same_sound: pairs of indices.
        splits: shares and seed.
        told: the split that the descriptions tell of each clip, None where they tell none.
        history: rows of `tables.SPLITS`.
    """
    drawn_by = hashlib.sha256(f"{splits.seed} {splits.train} {splits.val} {splits.test}".encode()).hexdigest()[:16]
    past = {row["clip_id"]: row for row in history}
    here = {clip["clip_id"] for clip in clips}
    holds = {clip_id: row["split"] for clip_id, row in past.items() if row["settings"] == drawn_by}
    gone = [row for clip_id, row in sorted(past.items()) if clip_id not in here]
    items = [
        Item(clip["clip_id"], _keys(clip), holds.get(clip["clip_id"]), word)
        for clip, word in zip(clips, told, strict=True)
    ]
    items += [Item(row["clip_id"], tuple(row["keys"]), row["split"]) for row in gone if row["clip_id"] in holds]

    links, refused = _link(items, list(same_sound))
    kept = [at for at in range(len(items)) if at not in refused]
    number = {at: new for new, at in enumerate(kept)}
    unknown = dict.fromkeys(("video_id", "track_id", "artist_id"))
    found = assign(
        [clips[at] if at < len(clips) else {**unknown, "sha256": items[at].clip_id} for at in kept],
        [(number[one], number[other]) for one, other in links],
        splits,
        [items[at].told for at in kept],
        [items[at].held for at in kept],
    )
    placed = [None if at in refused else found[number[at]] for at in range(len(clips))]
    rows = [
        _row(item, split, drawn_by, past.get(item.clip_id))
        for item, split in zip(items, placed, strict=False)
        if split is not None
    ]
    _tell(rows, past)
    return placed, refused, [*rows, *gone]


def _link(items: Sequence[Item], same_sound: Iterable[tuple[int, int]]) -> tuple[list[tuple[int, int]], dict[int, str]]:
    """Return pairs that join each group, and the new items that belong to two sides, with the reason."""
    from scipy.cluster.hierarchy import DisjointSet

    sounds: dict[int, list[int]] = {}
    for one, other in same_sound:
        sounds.setdefault(one, []).append(other)
        sounds.setdefault(other, []).append(one)
    groups: Any = DisjointSet()
    sides: dict[int, dict[str, int]] = {}  # of a group, by its root: an item of each split that is held in it
    holder: dict[str, int] = {}  # of a key: an item that was taken
    links, refused = [], {}
    for at in sorted(range(len(items)), key=lambda at: (items[at].held is None, items[at].clip_id)):
        item = items[at]
        near = {holder[key] for key in item.keys if key in holder}
        near |= {other for other in sounds.get(at, ()) if other in groups}
        met: dict[str, int] = {}
        for root in sorted({groups[other] for other in near}):
            met |= sides[root]
        if item.held is None and item.told in (None, "train") and len(met) > 1:
            belongs = " and ".join(f"{items[other].clip_id} ({split})" for split, other in sorted(met.items()))
            refused[at] = f"it belongs with {belongs}, which were split before; left out, so that none changes sides"
            continue
        groups.add(at)
        for other in sorted(near):
            groups.merge(at, other)
            links.append((at, other))
        sides[groups[at]] = ({item.held: at} if item.held else {}) | met
        holder.update(dict.fromkeys(item.keys, at))
    return links, refused


def _keys(clip: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what links a clip, as digests: of one that is gone no name is kept."""
    named = [(name, clip[name]) for name in ("video", "track_id", "artist_id") if clip[name] is not None]
    return tuple(hashlib.sha256(f"{name}={value}".encode()).hexdigest()[:16] for name, value in named)


def _row(item: Item, split: str, drawn_by: str, before: Row | None) -> Row:
    if before is not None and before["split"] == split:
        why, was = before["why"], before["before"]
    elif before is not None:
        why, was = _TOLD if before["settings"] == drawn_by else _SETTINGS, before["split"]
    else:
        why, was = _FIRST, None
    return {
        "clip_id": item.clip_id, "keys": list(item.keys), "split": split, "settings": drawn_by, "why": why, "before": was,
    }  # fmt: skip


def _tell(rows: Sequence[Row], past: Mapping[str, Row]) -> None:
    """Log which clips changed sides."""
    moved = [row for row in rows if row["clip_id"] in past and past[row["clip_id"]]["split"] != row["split"]]
    for (before, split, why), count in sorted(
        Counter((row["before"], row["split"], row["why"]) for row in moved).items()
    ):
        names = [row["clip_id"] for row in moved if (row["before"], row["split"], row["why"]) == (before, split, why)]
        more = ", ..." if count > _NAMED else ""
        log.warning(
            "ingest: %d clips changed sides from %s to %s (%s): %s%s",
            count, before, split, why, ", ".join(names[:_NAMED]), more,
        )  # fmt: skip
