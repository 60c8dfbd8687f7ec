"""metrics.json from rankings: intervals, chance, the oracle and the share of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.evaluation.bootstrap import cluster_weights, intervals
from components.evaluation.metrics import chance
from components.evaluation.oracle import ratio
from components.evaluation.params import EvaluationSection
from components.evaluation.pool import Pool
from components.evaluation.retrieval import DIRECTIONS, Ranking

RANKS = pa.schema(
    [
        pa.field("level", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("pool", pa.int64(), nullable=False),
        pa.field("positive_score", pa.float64(), nullable=False),
        pa.field("top_clip_id", pa.string(), nullable=False),
    ]
)


def make_report(
    pool: Pool, rankings: Sequence[Ranking], oracle: dict[str, NDArray[np.int64]], section: EvaluationSection
) -> dict[str, Any]:
    """Return the nested figures of metrics.json.

    Args:
        pool: queries and gallery.
        rankings: of every level, direction and mode.
        oracle: ranks (N,) per mode, track level, video to music; empty where there is no truth.
        section: resamples, seed, confidence.
    """
    artists = [row["artist_id"] for row in pool.rows]
    weights = cluster_weights(artists, section.resamples, section.seed)
    levels: dict[str, dict[str, Any]] = {level: {d: {} for d in DIRECTIONS} for level in ("track", "segment")}
    for ranking in rankings:
        levels[ranking.level][ranking.direction][ranking.mode] = intervals(ranking.rank, weights, section.confidence)
    limit = {mode: intervals(rank, weights, section.confidence) for mode, rank in oracle.items()}
    reached = levels["track"]["video_to_music"]
    return {
        "pool": {
            "size": len(pool),
            "queries": len(pool),
            "artists": len(set(artists)),
            "text_source": pool.text_source,
            "confidence": section.confidence,
            "chance": chance(len(pool), pool.same_track().sum(axis=1)),
        },
        **levels,
        "oracle": limit,
        "ratio_to_oracle": {mode: ratio(reached[mode], found) for mode, found in limit.items() if mode in reached},
    }
