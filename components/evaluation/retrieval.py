"""Score matrices of every level, direction and mode, and the ranks they give.

Levels: ``track`` ranks whole clips, and any clip of the same track is right; ``segment`` ranks one
segment of each clip, and only the music of that clip at that time is right. Directions:
``video_to_music`` ranks music for a query, ``music_to_video`` ranks queries for a piece of music.
A query is ranked within its own pool. N is the clips of all pools, n those of one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.encoder.embed import MODES, Gathers
from components.encoder.ranking import ranks
from components.evaluation.pool import Pool
from components.evaluation.scorer import Scorer
from components.evaluation.segments import OneSegment, middle_segments, segments_at
from components.modalities import MUSIC, TEXT, VIDEO, Modality

DIRECTIONS = ("video_to_music", "music_to_video")
COUNTERFACTUAL = "counterfactual"  # mode of queries with another track's text
CAPTION, FUSED_CAPTION = "caption", "video+caption"  # modes text and video+text, the caption in place of the annotation
PER_QUERY = ("clips", "rank", "score", "top", "positives", "number", "donor", "donor_rank", "donor_before")

RANKS = pa.schema(
    [
        pa.field("level", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("pool", pa.int64(), nullable=False),  # clips in the pool
        pa.field("pool_number", pa.int64(), nullable=False),
        pa.field("positive_score", pa.float64(), nullable=False),
        pa.field("top_clip_id", pa.string(), nullable=False),
        ("donor_clip_id", pa.string()),  # mode counterfactual: whose text it is,
        ("donor_rank", pa.int64()),  # that clip's track's rank,
        ("donor_rank_by_video", pa.int64()),  # and its rank for the video alone
    ]
)

Scores = dict[str, NDArray[np.float32]]  # (n, n) by mode


@dataclass(frozen=True)
class Ranking:
    """Ranks of one (level, direction, mode); Q queries, all clips or those that the mode has.

    Attributes:
        clips: (Q,) clip id of each query.
        rank: (Q,) rank of each query's best positive, 1 = first.
        score: (Q,) score of that positive.
        top: (Q,) clip id of the first item.
        positives: (Q,) how many items are right.
        number: (Q,) which pool the query is in.
        pool: clips in a pool.
        donor: (Q,) clip id whose text a counterfactual query has; None for other modes.
        donor_rank: (Q,) rank of that clip's track for the counterfactual query; None for other modes.
        donor_before: (Q,) its rank for the video alone; None for other modes.
    """

    level: str
    direction: str
    mode: str
    clips: NDArray[np.str_]
    rank: NDArray[np.int64]
    score: NDArray[np.float32]
    top: NDArray[np.str_]
    positives: NDArray[np.int64]
    number: NDArray[np.int64]
    pool: int
    donor: NDArray[np.str_] | None = None
    donor_rank: NDArray[np.int64] | None = None
    donor_before: NDArray[np.int64] | None = None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per query, for ranks.parquet."""
        for at, clip in enumerate(self.clips):
            yield {
                "level": self.level,
                "direction": self.direction,
                "mode": self.mode,
                "clip_id": str(clip),
                "rank": int(self.rank[at]),
                "pool": self.pool,
                "pool_number": int(self.number[at]),
                "positive_score": float(self.score[at]),
                "top_clip_id": str(self.top[at]),
                "donor_clip_id": None if self.donor is None else str(self.donor[at]),
                "donor_rank": None if self.donor_rank is None else int(self.donor_rank[at]),
                "donor_rank_by_video": None if self.donor_before is None else int(self.donor_before[at]),
            }

    def only(self, kept: NDArray[np.bool_]) -> "Ranking":
        """Return the ranking of some of the queries (Q,)."""
        values = {name: getattr(self, name) for name in PER_QUERY}
        return replace(self, **{name: value[kept] for name, value in values.items() if value is not None})


def rank_everything(scorer: Scorer, pool: Pool, modes: Iterable[str] = tuple(MODES)) -> Iterator[Ranking]:
    """Yield the rankings of both levels, both directions and those of ``modes`` that the pool has features for."""
    wanted = tuple(modes)
    by_pool = [
        [
            *rank_both_ways("track", part, track_scores(scorer, part, wanted)),
            *rank_both_ways("segment", part, segment_scores(scorer, part, wanted)),
        ]
        for part in pool.parts()
    ]
    for same in zip(*by_pool, strict=True):
        yield join(same)


def track_scores(scorer: Scorer, part: Pool, modes: Iterable[str] = tuple(MODES)) -> Scores:
    """Return the scores of whole clips by mode."""
    return _scores(scorer, dict[Modality, Gathers](part.stores), part.ids, modes)


def segment_scores(scorer: Scorer, part: Pool, modes: Iterable[str] = tuple(MODES)) -> Scores:
    """Return the scores of one segment of each clip by mode."""
    return _scores(scorer, _one_segment_each(part), part.ids, modes)


def checked(scores: NDArray[np.float32], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
    """Return scores as they are.

    Raises:
        ValueError: they are not numbers, or not one per query and item; mode and clip are named.
    """
    if scores.shape != (len(ids), len(ids)):
        raise ValueError(f"mode {mode}: scores of shape {scores.shape} for {len(ids)} clips")
    broken = ~np.isfinite(scores)
    if broken.any():
        # A column that is all broken is a piece of music; else the query is to blame.
        of_music = broken.all(axis=0)
        clip = ids[int(np.argmax(of_music))] if of_music.any() else ids[int(np.argmax(broken.any(axis=1)))]
        what = "music" if of_music.any() and not of_music.all() else "query"
        raise ValueError(
            f"mode {mode}: {int(broken.sum())} of {broken.size} scores are not finite numbers, first for the {what} of clip "
            f"{clip!r}; the model or its features are broken: run features and training again"
        )
    return scores


def rank_both_ways(level: str, part: Pool, scores: Scores) -> Iterator[Ranking]:
    """Yield the rankings of score matrices in both directions."""
    positives = part.same_track() if level == "track" else np.eye(len(part), dtype=np.bool_)
    for mode, matrix in scores.items():
        for direction, turned in zip(DIRECTIONS, (matrix, matrix.T), strict=True):
            yield rank_one(level, direction, mode, part, turned, positives)


def rank_one(
    level: str, direction: str, mode: str, part: Pool, scores: NDArray[np.float32], positives: NDArray[np.bool_]
) -> Ranking:
    """Rank the items of one pool for its queries, both (n,)."""
    ids = np.array(part.ids)
    number = np.zeros(len(part), np.int64) if part.number is None else part.number
    best = np.where(positives, scores, -np.inf).max(axis=1).astype(np.float32)
    rank = ranks(scores, positives)
    return Ranking(
        level, direction, mode, ids, rank, best, ids[scores.argmax(axis=1)], positives.sum(axis=1), number, len(part)
    )


def join(parts: Sequence[Ranking]) -> Ranking:
    """Put the rankings of several pools together, in order of the clips' ids."""
    first = parts[0]
    order = np.argsort(np.concatenate([part.clips for part in parts]), kind="stable")

    def whole(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)[order]

    return replace(first, **{name: whole(name) for name in PER_QUERY})


def _scores(scorer: Scorer, sources: Mapping[Modality, Gathers], ids: list[str], modes: Iterable[str]) -> Scores:
    return {
        mode: checked(scorer.scores(sources, ids, mode), ids, mode)
        for mode in modes
        if all(modality in sources for modality in MODES[mode])
    }


def _one_segment_each(pool: Pool) -> dict[Modality, Gathers]:
    video, music = pool.stores[VIDEO], pool.stores[MUSIC]
    middle = middle_segments(video, pool.ids)
    last = video.segments[video.rows_of(pool.ids)] - 1
    place: NDArray[np.float64] = middle / np.maximum(last, 1)
    sources: dict[Modality, Gathers] = {
        VIDEO: OneSegment(video, pool.ids, middle),
        MUSIC: OneSegment(music, pool.ids, segments_at(music, pool.ids, place)),
    }
    if TEXT in pool.stores:
        sources[TEXT] = pool.stores[TEXT]
    return sources
