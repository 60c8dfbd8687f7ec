"""metrics.json from what was found: intervals, chance, the oracle and the share of it, and the rest by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval, cluster_weights, intervals, mean_interval
from components.evaluation.clusters import clusters_of
from components.evaluation.findings import Findings
from components.evaluation.metrics import chance
from components.evaluation.occurrence import by_chance, skewness
from components.evaluation.oracle import ratio
from components.evaluation.params import EvaluationSection
from components.evaluation.pool import Pool
from components.evaluation.relevance import Tags
from components.evaluation.retrieval import DIRECTIONS, Ranking
from components.evaluation.slices import slice_rankings, slice_row

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


def make_report(pool: Pool, found: Findings, tags: Tags, section: EvaluationSection) -> dict[str, Any]:
    """Return the nested figures of metrics.json.

    What has many rows (slices, weights of the text) is a list, so that a flat view of the figures stays short.

    Args:
        pool: queries and gallery.
        found: in all pools.
        tags: of every clip; empty where there are none.
        section: resamples, seed, confidence, slices, guidance.
    """
    named = dict(zip(pool.ids, clusters_of(pool.rows), strict=True))
    weights = cluster_weights([named[clip] for clip in found.queries["clip"]], section.resamples, section.seed)
    levels: dict[str, dict[str, Any]] = {level: {d: {} for d in DIRECTIONS} for level in ("track", "segment")}
    for ranking in found.rankings:
        levels[ranking.level][ranking.direction][ranking.mode] = intervals(ranking.rank, weights, section.confidence)
    shown = [r for r in found.rankings if (r.level, r.direction) == ("track", DIRECTIONS[0])]
    limit = {mode: intervals(rank, weights, section.confidence) for mode, rank in by_mode("oracle", found).items()}
    reached = levels["track"]["video_to_music"]
    by_luck = chance(shown[0].pool, shown[0].positives)
    relevant = by_mode("ndcg", found)
    return {
        "pool": {
            "size": shown[0].pool,
            "queries": len(pool),
            "pools": len(np.unique(shown[0].number)),
            "artists": len({row["artist_id"] for row in pool.rows}),
            "clusters": len(set(named.values())),
            "text_source": pool.text_source,
            "confidence": section.confidence,
            "chance": by_luck,
        },
        **levels,
        "oracle": limit,
        "ratio_to_oracle": {mode: ratio(reached[mode], best) for mode, best in limit.items() if mode in reached},
        "graded": {
            mode: float(values.mean()) if mode == "chance" else mean_interval(values, weights, section.confidence)
            for mode, values in relevant.items()
        },
        **_listing(shown[0].pool, found),
        "counterfactual": _counterfactual(found, named, by_luck["R@10"], section),
        "guidance": _guidance(found, named, weights, section),
        "slices": [
            *slice_rankings(shown, pool.rows, tags, named, section),
            *_by_text(pool, shown, found.others, named, section),
        ],
    }


def by_mode(kind: str, found: Findings) -> dict[str, NDArray[Any]]:
    """Return the columns ``<kind>/<mode>`` over all queries, by mode."""
    return {
        name.removeprefix(f"{kind}/"): values for name, values in found.queries.items() if name.startswith(f"{kind}/")
    }


def _listing(pool: int, found: Findings) -> dict[str, dict[str, float]]:
    skew, cover = by_chance(pool)
    listed, sure = by_mode("listed", found), by_mode("sure", found)
    return {
        "hubness": {mode: skewness(counted) for mode, counted in listed.items()} | {"chance": skew},
        "coverage": {mode: float(covered.mean()) for mode, covered in sure.items()} | {"chance": cover},
    }


def _counterfactual(
    found: Findings, named: Mapping[str, str], by_luck: float, section: EvaluationSection
) -> dict[str, Any]:
    """Return how the ranking moves to the text of another track, and what is left for the video."""
    ranking = next((r for r in found.others if r.donor_rank is not None), None)
    if ranking is None or ranking.donor_rank is None or ranking.donor_before is None or not len(ranking.clips):
        return {}
    weights = cluster_weights([named[str(clip)] for clip in ranking.clips], section.resamples, section.seed)

    def few(rank: NDArray[np.int64]) -> dict[str, Interval]:
        whole = intervals(rank, weights, section.confidence)
        return {name: whole[name] for name in ("R@10", "MedR")}

    rises = (ranking.donor_rank < ranking.donor_before).astype(np.float64)
    own = few(ranking.rank)
    figures: dict[str, Any] = {
        "queries": len(ranking.clips),
        "own": own,
        "donor": few(ranking.donor_rank),
        "donor_by_video": few(ranking.donor_before),
        "rises": mean_interval(rises, weights, section.confidence),
        "above_chance": own["R@10"]["low"] > by_luck,
    }
    limits = {name: few(found.exchanged[f"oracle/{name}"])["R@10"] for name in ("own", "donor")
              if f"oracle/{name}" in found.exchanged}  # fmt: skip
    return figures | ({"oracle": limits} if limits else {})


def _guidance(
    found: Findings, named: Mapping[str, str], weights: NDArray[np.float32], section: EvaluationSection
) -> list[dict[str, Any]]:
    """Return R@10 by the weight of the text: of the own track, and with another track's text of both tracks."""
    if "own" not in found.queries:
        return []
    exchanged = cluster_weights(
        [named[str(clip)] for clip in found.exchanged["clip"]], section.resamples, section.seed
    ) if len(found.exchanged["clip"]) else None  # fmt: skip

    def recall(rank: NDArray[np.int64], drawn: NDArray[np.float32]) -> Interval:
        return mean_interval((rank <= 10).astype(np.float64), drawn, section.confidence)

    rows = []
    for at, weight in enumerate(section.guidance):
        row: dict[str, Any] = {"weight": weight, "own": recall(found.queries["own"][:, at], weights)}
        if exchanged is not None:
            row |= {name: recall(found.exchanged[name][:, at], exchanged) for name in ("donor", "kept")}
        rows.append(row)
    return rows


def _by_text(
    pool: Pool, shown: list[Ranking], others: list[Ranking], named: Mapping[str, str], section: EvaluationSection
) -> list[dict[str, Any]]:
    """Return the slices by kind of text: the same queries in the human's and in the machine's words."""
    own = [r for r in shown if r.mode != "video"]
    rows = [slice_row("text", pool.text_source, own, named, section)] if own else []
    machine = [r for r in others if r.donor is None]
    if machine and len(machine[0].clips) >= section.least_slice:
        row = slice_row("text", "caption", machine, named, section)
        row["R@10"] = {{"caption": "text", "video+caption": "video+text"}[m]: v for m, v in row["R@10"].items()}
        rows.append(row)
    return rows
