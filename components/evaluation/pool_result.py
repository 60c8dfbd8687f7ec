"""Everything that is measured in one pool, and the pools joined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import Gathers
from components.evaluation.counterfactual import guided, rank_counterfactual
from components.evaluation.exchange import EitherText, donors
from components.evaluation.occurrence import occurrences
from components.evaluation.oracle import Truth, counterfactual_ranks, oracle_ranks
from components.evaluation.params import EvaluationSection
from components.evaluation.pool import Pool
from components.evaluation.relevance import Tags, ndcg, ndcg_by_chance, relevance
from components.evaluation.retrieval import (
    CAPTION,
    COUNTERFACTUAL,
    DIRECTIONS,
    FUSED_CAPTION,
    Ranking,
    Scores,
    checked,
    join,
    rank_both_ways,
    rank_one,
    segment_scores,
    track_scores,
)
from components.evaluation.scorer import Scorer
from components.modalities import TEXT, Modality

Columns = dict[str, NDArray[Any]]  # by name, one value (or row) per clip of "clip"


@dataclass(frozen=True)
class PoolResult:
    """What was measured in one pool, or in all of them.

    Attributes:
        rankings: of both levels, both directions and every mode.
        other_texts: counterfactual queries, and captions in place of annotations; track level, query to music.
        by_query: columns over all clips, track level, query to music. ``oracle/<mode>``: rank; ``ndcg/<mode>``
            and ``ndcg/chance``; ``listed/<mode>``: how many lists of ten the clip's music is in;
            ``sure/<mode>``: whether it is in one however ties are broken; ``own``: ranks by text weight.
        by_exchange: columns over the clips with a counterfactual query: ``donor`` and ``kept``, ranks by text
            weight; ``oracle/own`` and ``oracle/donor``, ranks.
    """

    rankings: list[Ranking]
    other_texts: list[Ranking]
    by_query: Columns
    by_exchange: Columns

    @property
    def counterfactual(self) -> Ranking | None:
        """Return the ranking of counterfactual queries; None where the pool has no texts."""
        return next((ranking for ranking in self.other_texts if ranking.mode == COUNTERFACTUAL), None)


def measure_pool(
    scorer: Scorer, part: Pool, truth: tuple[Truth, dict[str, Any]] | None, tags: Tags, section: EvaluationSection
) -> PoolResult:
    """Measure one pool.

    Raises:
        ValueError: scores are no numbers.
    """
    same, ids = part.same_track(), np.array(part.ids)
    number = 0 if part.number is None else int(part.number[0])
    scores = track_scores(scorer, part)
    rankings = [
        *rank_both_ways("track", part, scores),
        *rank_both_ways("segment", part, segment_scores(scorer, part)),
    ]
    by_query: Columns = {"clip": ids} | _lists(scores, part, same, tags)
    other_texts: list[Ranking] = []
    by_exchange: Columns = {"clip": ids[:0]}
    known = None if truth is None else ([truth[0][row["video_id"]] for row in part.rows], truth[1])
    if known is not None:
        limit = oracle_ranks(*known, same, section.seed + number)
        by_query |= {f"oracle/{mode}": rank for mode, rank in limit.items()}
    if TEXT in part.stores:
        donor = donors([row["track_id"] for row in part.rows], section.seed + number)
        valid = donor != np.arange(len(part))
        other_texts = [rank_counterfactual(scorer, part, scores, donor), *_captioned(scorer, part, same)]
        by_exchange = {"clip": ids[valid]}
        if section.guidance:
            by_weight = guided(scores, same, donor, section.guidance)
            by_query |= {"own": by_weight["own"]}
            by_exchange |= {"donor": by_weight["donor"][valid], "kept": by_weight["kept"][valid]}
        if known is not None:
            own, given = counterfactual_ranks(*known, same, donor, section.seed + number)
            by_exchange |= {"oracle/own": own[valid], "oracle/donor": given[valid]}
    return PoolResult(rankings, other_texts, by_query, by_exchange)


def join_pools(parts: Sequence[PoolResult]) -> PoolResult:
    """Return the results of several pools as one, clips in order of their ids."""
    return PoolResult(
        [join(same) for same in zip(*(part.rankings for part in parts), strict=True)],
        [join(same) for same in zip(*(part.other_texts for part in parts), strict=True)],
        _stack([part.by_query for part in parts]),
        _stack([part.by_exchange for part in parts]),
    )


def _stack(parts: Sequence[Columns]) -> Columns:
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(whole["clip"], kind="stable")
    return {name: values[order] for name, values in whole.items()}


def _lists(scores: Scores, part: Pool, same: NDArray[np.bool_], tags: Tags) -> Columns:
    lists: Columns = {}
    for mode, matrix in scores.items():
        lists[f"listed/{mode}"], lists[f"sure/{mode}"] = occurrences(matrix)
    if tags:
        relevant = relevance(part.ids, tags, same)
        lists |= {f"ndcg/{mode}": ndcg(matrix, relevant) for mode, matrix in scores.items()}
        lists["ndcg/chance"] = ndcg_by_chance(relevant)
    return lists


def _captioned(scorer: Scorer, part: Pool, same: NDArray[np.bool_]) -> list[Ranking]:
    """Rank with the machine's caption in place of the human's words, for the clips that have both."""
    if part.captions is None:
        return []
    own = np.array([clip in part.captions for clip in part.ids])
    words: Mapping[Modality, Gathers] = {TEXT: EitherText(part.captions, part.stores[TEXT])}
    sources = {**part.stores, **words}
    return [
        rank_one("track", DIRECTIONS[0], name, part, checked(scorer.scores(sources, part.ids, mode), part.ids, name), same)
        .only(own)
        for mode, name in (("text", CAPTION), ("video+text", FUSED_CAPTION))
    ]  # fmt: skip
