"""A whole evaluation: pool, rankings, oracle, figures."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.encoder.device import settle
from components.encoder.embed import check_stores
from components.encoder.serialise import LoadedModel
from components.evaluation.oracle import Truth, oracle_ranks
from components.evaluation.params import EvaluationSection
from components.evaluation.pool import choose_pool
from components.evaluation.report import make_report
from components.evaluation.retrieval import Ranking, rank_everything
from components.modalities import Modality
from components.store import FeatureStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What an evaluation found: figures for metrics.json, rows for ranks.parquet, ranks for the plots."""

    report: dict[str, Any]
    rows: list[dict[str, Any]]
    rankings: list[Ranking]
    oracle: dict[str, NDArray[np.int64]]


def evaluate(
    loaded: LoadedModel,
    manifest: Sequence[dict[str, Any]],
    stores: Mapping[Modality, FeatureStore],
    annotations: FeatureStore,
    truth: tuple[Truth, dict[str, Any]] | None,
    section: EvaluationSection,
) -> Measured:
    """Rank the test pool with the model and, where the truth is known, with the oracle.

    Raises:
        ValueError: too few test clips, features of another extractor, or a truth that lacks a clip.
    """
    device = settle(section.threads)
    pool = choose_pool(manifest, stores, annotations, section)
    check_stores(loaded.features, pool.stores)
    rankings = list(rank_everything(loaded.model.to(device), pool))
    oracle: dict[str, NDArray[np.int64]] = {}
    if truth is not None:
        known, factors = truth
        lost = [row["video_id"] for row in pool.rows if row["video_id"] not in known]
        if lost:
            raise ValueError(f"truth.parquet lacks video {lost[0]!r} ({len(lost)} in all); run the corpus stage again")
        rows = [known[row["video_id"]] for row in pool.rows]
        oracle = oracle_ranks(rows, factors, pool.same_track(), section.seed)
    report = make_report(pool, rankings, oracle, section)
    _say(report)
    return Measured(report, [row for ranking in rankings for row in ranking.rows(pool)], rankings, oracle)


def _say(report: dict[str, Any]) -> None:
    pool = report["pool"]
    log.info(
        "evaluation: pool %d clips (text: %s), chance R@10 %.3f, median rank %.1f",
        pool["size"], pool["text_source"], pool["chance"]["R@10"], pool["chance"]["MedR"],
    )  # fmt: skip
    for mode, found in report["track"]["video_to_music"].items():
        r10, share = found["R@10"], report["ratio_to_oracle"].get(mode, {}).get("R@10")
        log.info(
            "evaluation: %-10s R@10 %.3f [%.3f, %.3f], median rank %.1f%s",
            mode, r10["value"], r10["low"], r10["high"], found["MedR"]["value"],
            "" if share is None else f", {share:.2f} of the oracle",
        )  # fmt: skip
