"""Which queries changed most: the ones a reviewer should look at, and listen to."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from flows.gate.sides import AMONG_FIRST, FUSED, Queries, Side


def examples(queries: Queries, ours: Side, theirs: Side, most: int) -> dict[str, list[dict[str, Any]]]:
    """Return the biggest wins and losses for video+text, by the ratio of the two ranks.

    Queries whose right track came into, or fell out of, the first ten go first: these are what R@10 counts.
    Equal ones stand in order of their clip ids.
    """
    if FUSED not in ours.ranks or FUSED not in theirs.ranks:
        return {"wins": [], "losses": []}
    gained = np.log(theirs.ranks[FUSED] / ours.ranks[FUSED])
    crossed = ours.hits(FUSED).astype(int) - theirs.hits(FUSED).astype(int)  # 1 came in, -1 fell out
    found = {}
    for name, sign in (("wins", 1), ("losses", -1)):
        order = np.lexsort((np.arange(len(queries)), -sign * gained, -sign * crossed))
        kept = [int(at) for at in order if sign * gained[at] > 0][:most]
        found[name] = [dict(_row(queries, ours, theirs, at)) for at in kept]
    return found


def _row(queries: Queries, ours: Side, theirs: Side, at: int) -> Iterator[tuple[str, Any]]:
    clip = queries.clips[at]
    row = queries.rows.get(clip, {})
    yield "clip_id", clip
    yield "uri", row.get("uri")
    yield "start_s", row.get("start_s")
    yield "end_s", row.get("end_s")
    yield "title", _title(queries, clip)
    yield "text", queries.texts.get(clip)
    for name, side in (("ours", ours), ("theirs", theirs)):
        yield f"{name}_rank", int(side.ranks[FUSED][at])
        yield f"{name}_first", _title(queries, str(side.top[FUSED][at]))
    yield "among_first", AMONG_FIRST


def _title(queries: Queries, clip: str) -> str:
    row = queries.rows.get(clip, {})
    named = [row[key] for key in ("title", "artist") if row.get(key)]
    return " by ".join(named) if named else clip
