"""Does the ranking follow the words? The same videos with the texts of other tracks, and texts by weight."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import Gathers
from components.encoder.ranking import ranks
from components.evaluation.exchange import Exchanged
from components.evaluation.pool import Pool
from components.evaluation.retrieval import COUNTERFACTUAL, DIRECTIONS, Ranking, Scores, checked, rank_one
from components.evaluation.scorer import Scorer
from components.modalities import TEXT, Modality

Columns = dict[str, NDArray[np.int64]]


def rank_counterfactual(scorer: Scorer, part: Pool, scores: Scores, donor: NDArray[np.int64]) -> Ranking:
    """Rank whole clips for videos that were given another track's text, within one pool of n clips.

    Args:
        scorer: what ranks.
        part: one pool, with texts.
        scores: of whole clips; the mode ``video`` is needed.
        donor: (n,) whose text each clip is given; clips that are their own donors are left out.
    """
    ids, same = part.ids, part.same_track()
    given = [ids[at] for at in donor]
    sources = dict[Modality, Gathers](part.stores) | {TEXT: Exchanged(part.stores[TEXT], ids, given)}
    mixed = checked(scorer.scores(sources, ids, "video+text"), ids, COUNTERFACTUAL)
    ranking = replace(
        rank_one("track", DIRECTIONS[0], COUNTERFACTUAL, part, mixed, same),
        donor=np.array(given),
        donor_rank=ranks(mixed, same[donor]),
        donor_before=ranks(scores["video"], same[donor]),
    )
    return ranking.only(donor != np.arange(len(donor)))


def guided(scores: Scores, same: NDArray[np.bool_], donor: NDArray[np.int64], weights: Sequence[float]) -> Columns:
    """Rank with query(w) = unit((1 - w) y_video + w y_text) for every weight w of the text.

    The cosine with that query is the mix of both cosines divided by the mix's length, which is the same
    for every item of a query: the mixed scores give the same order. (For a scorer without embeddings it
    is the mix of its scores.)

    Args:
        scores: of whole clips, modes ``video`` and ``text``, each (n, n).
        same: (n, n) True where clips are of one track.
        donor: (n,) whose text each clip is given.
        weights: W numbers from 0 to 1.

    Returns:
        ``own``: (n, W) rank of the own track for video and own text; ``donor``: of the donor's track for
        video and the donor's text; ``kept``: of the own track for video and the donor's text.
    """
    own, given, kept = [], [], []
    for weight in weights:
        video, words = np.float32(1.0 - weight) * scores["video"], np.float32(weight) * scores["text"]
        own.append(ranks(video + words, same))
        other = video + words[donor]
        given.append(ranks(other, same[donor]))
        kept.append(ranks(other, same))
    return {name: np.stack(rank, axis=1) for name, rank in (("own", own), ("donor", given), ("kept", kept))}
