"""A whole evaluation: pools, rankings, oracle, metrics."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.encoder.device import deterministic_device
from components.encoder.embed import check_stores
from components.encoder.serialise import LoadedModel
from components.evaluation.aggregate import aggregate, columns
from components.evaluation.metrics_file import Metrics
from components.evaluation.oracle import Truth
from components.evaluation.params import EvaluationSection
from components.evaluation.pool import Pool, choose_pool
from components.evaluation.pool_result import join_pools, measure_pool
from components.evaluation.retrieval import Ranking
from components.evaluation.scorer import ModelScorer, Scorer
from components.modalities import Modality
from components.store import FeatureStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What an evaluation measured: metrics.json, rows for ranks.parquet, ranks for the plots.

    Attributes:
        metrics: what metrics.json holds.
        rankings: of every level, direction and mode.
        other_texts: of counterfactual queries, and of captions in place of annotations.
        oracle: ranks (N,) by mode; empty where there is no truth.
    """

    metrics: Metrics
    rankings: list[Ranking]
    other_texts: list[Ranking]
    oracle: Mapping[str, NDArray[np.int64]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return one row per query of every ranking."""
        return [row for ranking in (*self.rankings, *self.other_texts) for row in ranking.rows()]


def evaluate(
    loaded: LoadedModel,
    manifest: Sequence[dict[str, Any]],
    stores: Mapping[Modality, FeatureStore],
    annotations: FeatureStore,
    truth: tuple[Truth, dict[str, Any]] | None,
    section: EvaluationSection,
    tags: Iterable[Mapping[str, Any]] = (),
) -> Measured:
    """Rank the test pool with the model and, where the truth is known, with the oracle.

    Raises:
        ValueError: too few test clips, features of another extractor, a truth that lacks a clip, or scores
            that are not numbers.
    """
    device = deterministic_device(section.threads)
    pool = choose_pool(manifest, stores, annotations, section)
    check_stores(loaded.features, pool.stores)
    measured = measure(ModelScorer(loaded.model.to(device)), pool, truth, tags, section)
    _log(measured.metrics)
    return measured


def measure(
    scorer: Scorer,
    pool: Pool,
    truth: tuple[Truth, dict[str, Any]] | None,
    tags: Iterable[Mapping[str, Any]],
    section: EvaluationSection,
) -> Measured:
    """Measure any system that scores every query mode.

    Args:
        scorer: the system.
        pool: of queries and music.
        truth: of the demo corpus; None without.
        tags: rows of `tables.TAGS`; empty for no graded relevance and no slices by tag.
        section: how to measure.

    Raises:
        ValueError: a truth that lacks a clip, or scores that are not numbers.
    """
    lost = [row["video_id"] for row in pool.rows if row["video_id"] not in truth[0]] if truth is not None else []
    if lost:
        raise ValueError(f"truth.parquet lacks video {lost[0]!r} ({len(lost)} in all); run the corpus stage again")
    tagged = {row["clip_id"]: row["tags"] for row in tags}
    result = join_pools([measure_pool(scorer, part, truth, tagged, section) for part in pool.parts()])
    metrics = aggregate(pool, result, tagged, section)
    oracle = {str(mode): rank for mode, rank in columns(result, "oracle").items()}
    return Measured(metrics, result.rankings, result.other_texts, oracle)


def _log(metrics: Metrics) -> None:
    pool = metrics.pool
    log.info(
        "evaluation: pool %d clips%s (text: %s), chance R@10 %.3f, median rank %.1f",
        pool.size, f" x {pool.pools}" if pool.pools > 1 else "", pool.text_source,
        pool.chance.recall_at_10, pool.chance.median_rank,
    )  # fmt: skip
    if pool.clusters < 2:
        log.warning("evaluation: all queries are of one artist, video or track: the intervals say nothing")
    for mode, reached in metrics.track.video_to_music.items():
        r10, ratio = reached.recall_at_10, metrics.ratio_to_oracle.get(mode)
        share = None if ratio is None else ratio.recall_at_10
        log.info(
            "evaluation: %-10s R@10 %.3f [%.3f, %.3f], median rank %.1f of %d%s",
            mode, r10.value, r10.low, r10.high, reached.median_rank.value, pool.size,
            "" if share is None else f", {share:.2f} of the oracle",
        )  # fmt: skip
    if moved := metrics.counterfactual:
        own = moved.own.recall_at_10
        log.info(
            "evaluation: with another track's text: that track rises for %.0f %% of %d videos, median rank %.1f from %.1f; "
            "the video's own track keeps R@10 %.3f [%.3f, %.3f]",
            100 * moved.rises.value, moved.queries, moved.donor.median_rank.value,
            moved.donor_by_video.median_rank.value, own.value, own.low, own.high,
        )  # fmt: skip
