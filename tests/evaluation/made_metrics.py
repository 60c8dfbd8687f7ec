"""Metrics made up for what only reads them."""

from typing import Any

from components.evaluation.metrics_file import (
    MODES,
    ChanceMetrics,
    Directions,
    GradedRelevance,
    Interval,
    Metrics,
    ModeFigures,
    OracleRatio,
    PoolFacts,
    RankMetrics,
)

R10 = Interval(value=0.7, low=0.6, high=0.8)


def made_metrics(clips: int = 200, r10: Interval = R10, **blocks: Any) -> Metrics:
    """One pool of so many clips in which every figure of every mode is the same; an oracle that is level with it."""
    same = RankMetrics(recall_at_1=r10, recall_at_5=r10, recall_at_10=r10, median_rank=r10, mean_reciprocal_rank=r10)
    level = Directions(video_to_music=dict.fromkeys(MODES, same), music_to_video=dict.fromkeys(MODES, same))
    random = ChanceMetrics(
        recall_at_1=1 / clips, recall_at_5=5 / clips, recall_at_10=10 / clips, median_rank=(clips + 1) / 2,
        mean_reciprocal_rank=0.03,
    )  # fmt: skip
    pool = PoolFacts(
        size=clips, queries=clips, pools=1, artists=clips, clusters=clips, text_source="annotation", confidence=0.95,
        chance=random,
    )  # fmt: skip
    known = {
        "pool": pool, "track": level, "segment": level, "oracle": dict.fromkeys(MODES, same),
        "ratio_to_oracle": dict.fromkeys(MODES, OracleRatio(recall_at_10=1.0)), "graded": GradedRelevance(),
        "hubness": ModeFigures(chance=0.3), "coverage": ModeFigures(video=0.9, text=0.8, fused=1.0, chance=1.0),
        "counterfactual": None, "guidance": (), "slices": (),
    }  # fmt: skip
    return Metrics(**known | blocks)
