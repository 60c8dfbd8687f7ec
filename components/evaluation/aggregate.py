"""From the ranks of all queries to metrics.json: intervals, chance, the oracle and the share of it, slices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import cluster_weights, intervals, mean_interval
from components.evaluation.clusters import clusters_of
from components.evaluation.metrics import chance
from components.evaluation.metrics_file import (
    FUSED,
    MODES,
    ChanceMetrics,
    Counterfactual,
    CounterfactualOracle,
    Directions,
    GradedRelevance,
    GuidanceRow,
    Interval,
    Metrics,
    Mode,
    ModeFigures,
    PoolFacts,
    RankMetrics,
    RankSummary,
    SliceRow,
)
from components.evaluation.occurrence import by_chance, skewness
from components.evaluation.oracle import ratio
from components.evaluation.params import EvaluationSection
from components.evaluation.pool import Pool
from components.evaluation.pool_result import PoolResult
from components.evaluation.relevance import Tags
from components.evaluation.retrieval import CAPTION, DIRECTIONS, FUSED_CAPTION, Ranking
from components.evaluation.slices import slice_rankings, slice_row


def aggregate(pool: Pool, result: PoolResult, tags: Tags, section: EvaluationSection) -> Metrics:
    """Return the figures of metrics.json.

    What has many rows (slices, weights of the text) is a list, so that a flat view of the figures stays short.

    Args:
        pool: queries and gallery.
        result: of all pools.
        tags: of every clip; empty where there are none.
        section: resamples, seed, confidence, slices, guidance.
    """
    cluster = dict(zip(pool.ids, clusters_of(pool.rows), strict=True))
    weights = cluster_weights([cluster[clip] for clip in result.by_query["clip"]], section.resamples, section.seed)
    rankings = by_mode(result, "track", DIRECTIONS[0])
    first = next(iter(rankings.values()))
    skew, covered = by_chance(first.pool)
    expected = ChanceMetrics.model_validate(chance(first.pool, first.positives))

    def level(name: str) -> Directions:
        ranks = {direction: by_mode(result, name, direction) for direction in DIRECTIONS}
        return Directions(**{direction: {mode: intervals(one.rank, weights, section.confidence) for mode, one in modes.items()}
                             for direction, modes in ranks.items()})  # fmt: skip

    track = level("track")
    limit = {mode: intervals(rank, weights, section.confidence) for mode, rank in columns(result, "oracle").items()}
    return Metrics(
        pool=PoolFacts(
            size=first.pool,
            queries=len(pool),
            pools=len(np.unique(first.number)),
            artists=len({row["artist_id"] for row in pool.rows}),
            clusters=len(set(cluster.values())),
            text_source=pool.text_source,
            confidence=section.confidence,
            chance=expected,
        ),
        track=track,
        segment=level("segment"),
        oracle=limit,
        ratio_to_oracle={
            mode: ratio(track.video_to_music[mode], best)
            for mode, best in limit.items()
            if mode in track.video_to_music
        },
        graded=_graded(result, weights, section),
        hubness=_mode_figures({mode: skewness(listed) for mode, listed in columns(result, "listed").items()}, skew),
        coverage=_mode_figures({mode: float(sure.mean()) for mode, sure in columns(result, "sure").items()}, covered),
        counterfactual=_counterfactual(result, cluster, expected.recall_at_10, section),
        guidance=_guidance(result, cluster, weights, section),
        slices=(
            *slice_rankings(rankings, pool.rows, tags, cluster, section),
            *_by_text(pool, rankings, result, cluster, section),
        ),
    )


def by_mode(result: PoolResult, level: str, direction: str) -> dict[Mode, Ranking]:
    """Return the rankings of a level and a direction by query mode."""
    return {
        mode: ranking
        for mode in MODES
        for ranking in result.rankings
        if (ranking.level, ranking.direction, ranking.mode) == (level, direction, mode)
    }


def columns(result: PoolResult, kind: str) -> dict[Mode, NDArray[Any]]:
    """Return the columns ``<kind>/<mode>`` over all queries, by mode."""
    return {mode: result.by_query[f"{kind}/{mode}"] for mode in MODES if f"{kind}/{mode}" in result.by_query}


def _graded(result: PoolResult, weights: NDArray[np.float32], section: EvaluationSection) -> GradedRelevance:
    if "ndcg/chance" not in result.by_query:
        return GradedRelevance()
    means = {mode: mean_interval(ndcg, weights, section.confidence) for mode, ndcg in columns(result, "ndcg").items()}
    return GradedRelevance(
        video=means.get("video"),
        text=means.get("text"),
        fused=means.get(FUSED),
        chance=float(result.by_query["ndcg/chance"].mean()),
    )


def _mode_figures(figures: Mapping[Mode, float], expected: float) -> ModeFigures:
    return ModeFigures(video=figures.get("video"), text=figures.get("text"), fused=figures.get(FUSED), chance=expected)


def _counterfactual(
    result: PoolResult, cluster: Mapping[str, str], expected: float, section: EvaluationSection
) -> Counterfactual | None:
    """Return how the ranking moves to the text of another track, and what is left for the video."""
    ranking = result.counterfactual
    if ranking is None or ranking.donor_rank is None or ranking.donor_before is None or not len(ranking.clips):
        return None
    weights = cluster_weights([cluster[str(clip)] for clip in ranking.clips], section.resamples, section.seed)

    def summary(rank: NDArray[np.int64]) -> RankSummary:
        whole: RankMetrics = intervals(rank, weights, section.confidence)
        return RankSummary(recall_at_10=whole.recall_at_10, median_rank=whole.median_rank)

    rises = (ranking.donor_rank < ranking.donor_before).astype(np.float64)
    own = summary(ranking.rank)
    oracle = None
    if "oracle/own" in result.by_exchange:
        oracle = CounterfactualOracle(
            own=summary(result.by_exchange["oracle/own"]).recall_at_10,
            donor=summary(result.by_exchange["oracle/donor"]).recall_at_10,
        )
    return Counterfactual(
        queries=len(ranking.clips),
        own=own,
        donor=summary(ranking.donor_rank),
        donor_by_video=summary(ranking.donor_before),
        rises=mean_interval(rises, weights, section.confidence),
        above_chance=own.recall_at_10.low > expected,
        oracle=oracle,
    )


def _guidance(
    result: PoolResult, cluster: Mapping[str, str], weights: NDArray[np.float32], section: EvaluationSection
) -> tuple[GuidanceRow, ...]:
    """Return R@10 by the weight of the text: of the own track, and with another track's text of both tracks."""
    if "own" not in result.by_query:
        return ()
    clips = [str(clip) for clip in result.by_exchange["clip"]]
    exchanged = cluster_weights([cluster[clip] for clip in clips], section.resamples, section.seed) if clips else None

    def recall(rank: NDArray[np.int64], drawn: NDArray[np.float32]) -> Interval:
        return mean_interval((rank <= 10).astype(np.float64), drawn, section.confidence)

    return tuple(
        GuidanceRow(
            weight=weight,
            own=recall(result.by_query["own"][:, at], weights),
            donor=None if exchanged is None else recall(result.by_exchange["donor"][:, at], exchanged),
            kept=None if exchanged is None else recall(result.by_exchange["kept"][:, at], exchanged),
        )
        for at, weight in enumerate(section.guidance)
    )


def _by_text(
    pool: Pool,
    rankings: Mapping[Mode, Ranking],
    result: PoolResult,
    cluster: Mapping[str, str],
    section: EvaluationSection,
) -> list[SliceRow]:
    """Return the slices by kind of text: the same queries in the human's and in the machine's words."""
    own: dict[Mode, Ranking] = {mode: ranking for mode, ranking in rankings.items() if mode != "video"}
    rows = [slice_row("text", pool.text_source, own, cluster, section)] if own else []
    named: dict[str, Mode] = {CAPTION: "text", FUSED_CAPTION: FUSED}
    machine = {named[ranking.mode]: ranking for ranking in result.other_texts if ranking.mode in named}
    if machine and len(machine["text"].clips) >= section.least_slice:
        rows.append(slice_row("text", "caption", machine, cluster, section))
    return rows
