"""Which queries changed most: for a reviewer to read, and to hear in the page itself."""

import numpy as np

from components.evaluation.metrics_file import FUSED
from flows.gate.report import Example, Examples, Pick
from flows.gate.sides import AMONG_FIRST, Queries, Side


def examples(queries: Queries, ours: Side, theirs: Side | None, most: int) -> Examples:
    """Return the biggest wins and losses for video+text, by the ratio of the two ranks.

    Queries whose right track came into, or fell out of, the first ten go first: these are what R@10 counts.
    Equal ones stand in order of their clip ids.
    """
    if theirs is None or FUSED not in ours.ranks or FUSED not in theirs.ranks:
        return Examples(wins=(), losses=())
    gained = np.log(theirs.ranks[FUSED] / ours.ranks[FUSED])
    crossed = ours.hits(FUSED).astype(int) - theirs.hits(FUSED).astype(int)  # 1 came in, -1 fell out

    def largest(sign: int) -> tuple[Example, ...]:
        order = np.lexsort((np.arange(len(queries)), -sign * gained, -sign * crossed))
        kept = [int(at) for at in order if sign * gained[at] > 0][:most]
        return tuple(_example(queries, ours, theirs, at) for at in kept)

    return Examples(wins=largest(1), losses=largest(-1))


def _example(queries: Queries, ours: Side, theirs: Side, at: int) -> Example:
    clip = queries.clips[at]
    row = queries.rows.get(clip, {})
    return Example(
        clip_id=clip,
        uri=row.get("uri"),
        start_s=row.get("start_s"),
        end_s=row.get("end_s"),
        title=_title(queries, clip),
        text=queries.texts.get(clip),
        ours_rank=int(ours.ranks[FUSED][at]),
        ours_first=_title(queries, str(ours.top[FUSED][at])),
        theirs_rank=int(theirs.ranks[FUSED][at]),
        theirs_first=_title(queries, str(theirs.top[FUSED][at])),
        among_first=AMONG_FIRST,
        ours_pick=_pick(queries, str(ours.top[FUSED][at])),
        theirs_pick=_pick(queries, str(theirs.top[FUSED][at])),
    )


def _pick(queries: Queries, clip: str) -> Pick:
    row = queries.rows.get(clip, {})
    return Pick(clip_id=clip, uri=row.get("uri"), start_s=row.get("start_s"), end_s=row.get("end_s"))


def _title(queries: Queries, clip: str) -> str:
    row = queries.rows.get(clip, {})
    named = [row[key] for key in ("title", "artist") if row.get(key)]
    return " by ".join(named) if named else clip
