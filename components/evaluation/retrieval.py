"""Score matrices of every level, direction and mode, and the ranks they give.

Levels: ``track`` ranks whole clips, and any clip of the same track is right; ``segment`` ranks one
segment of each clip, and only the music of that clip at that time is right. Directions:
``video_to_music`` ranks music for a query, ``music_to_video`` ranks queries for a piece of music.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import MODES, Gathers, embed_music, embed_queries
from components.encoder.model import TrimodalModel
from components.encoder.ranking import ranks
from components.evaluation.pool import Pool
from components.evaluation.segments import OneSegment, middle_segments, segments_at
from components.modalities import MUSIC, TEXT, VIDEO, Modality

DIRECTIONS = ("video_to_music", "music_to_video")


@dataclass(frozen=True)
class Ranking:
    """Ranks of one (level, direction, mode) over the pool.

    Attributes:
        rank: (N,) rank of each query's best positive, 1 = first.
        score: (N,) cosine of that positive.
        top: (N,) row of the first item.
        positives: (N,) how many items are right.
    """

    level: str
    direction: str
    mode: str
    rank: NDArray[np.int64]
    score: NDArray[np.float32]
    top: NDArray[np.int64]
    positives: NDArray[np.int64]

    def rows(self, pool: Pool) -> list[dict[str, Any]]:
        """Return one row per query, for ranks.parquet."""
        ids = pool.ids
        return [
            {
                "level": self.level,
                "direction": self.direction,
                "mode": self.mode,
                "clip_id": clip,
                "rank": int(self.rank[at]),
                "pool": len(pool),
                "positive_score": float(self.score[at]),
                "top_clip_id": ids[self.top[at]],
            }
            for at, clip in enumerate(ids)
        ]


def rank_everything(model: TrimodalModel, pool: Pool) -> Iterator[Ranking]:
    """Yield the rankings of both levels, both directions and every mode the pool has features for."""
    for level, sources, positives in (
        ("track", dict[Modality, Gathers](pool.stores), pool.same_track()),
        ("segment", _one_segment_each(pool), np.eye(len(pool), dtype=np.bool_)),
    ):
        music = embed_music(model, sources[MUSIC], pool.ids)  # (N, E)
        for mode, modalities in MODES.items():
            if all(m in sources for m in modalities):
                scores = embed_queries(model, {m: sources[m] for m in modalities}, pool.ids) @ music.T  # (N, N)
                for direction, matrix in zip(DIRECTIONS, (scores, scores.T), strict=True):
                    yield _rank(level, direction, mode, matrix, positives)


def _rank(level: str, direction: str, mode: str, scores: NDArray[np.float32], positives: NDArray[np.bool_]) -> Ranking:
    best = np.where(positives, scores, -np.inf).max(axis=1).astype(np.float32)
    return Ranking(
        level, direction, mode, ranks(scores, positives), best, scores.argmax(axis=1), positives.sum(axis=1)
    )  # fmt: skip


def _one_segment_each(pool: Pool) -> dict[Modality, Gathers]:
    video, music = pool.stores[VIDEO], pool.stores[MUSIC]
    middle = middle_segments(video, pool.ids)
    last = video.segments[video.rows_of(pool.ids)] - 1
    place: NDArray[np.float64] = middle / np.maximum(last, 1)
    found: dict[Modality, Gathers] = {
        VIDEO: OneSegment(video, pool.ids, middle),
        MUSIC: OneSegment(music, pool.ids, segments_at(music, pool.ids, place)),
    }
    if TEXT in pool.stores:
        found[TEXT] = pool.stores[TEXT]
    return found
