"""The Bayes-optimal ranking of the demo corpus, computed from ``truth.parquet`` alone.

The demo draws music factors and then what the pictures and the description show of them, with
known noise. Every piece of music in the pool is equally likely beforehand, so the best possible
order for a query is that of log p(what is shown | music); video and text err independently, so
their log-likelihoods add. No model can do better on average than this order: it is the limit.

Per factor F the table has music_F, video_F and text_F (null where a side does not show it), and the
schema metadata ``world`` says how the shown value errs, for side in (video, text):

- categorical: with probability ``<side>_epsilon`` drawn afresh, uniformly over ``cardinality``;
- gaussian: the music's value plus noise of standard deviation ``<side>_sigma`` per dimension;
- subset: some of the music's ``size`` values in random order, none named twice, and each told with
  probability ``<side>_epsilon`` drawn afresh, uniformly over ``cardinality``.
"""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.encoder.embed import MODES
from components.encoder.ranking import competitors
from components.evaluation.metrics_file import OracleRatio, RankMetrics
from components.modalities import TEXT, VIDEO, Modality

WORLD: Final = b"world"

Truth = dict[str, dict[str, Any]]  # video_id -> row


def read_truth(path: Path) -> tuple[Truth, dict[str, Any]] | None:
    """Read the factors of every rendered clip; None for a corpus without a known truth.

    Raises:
        ValueError: the table has rows but does not describe its world.
    """
    table = pq.ParquetFile(path).read()
    if not table.num_rows:
        return None
    metadata = table.schema.metadata or {}
    if WORLD not in metadata:
        raise ValueError(f"{path}: no 'world' in the schema metadata; run the corpus stage again")
    factors: dict[str, Any] = json.loads(metadata[WORLD])["factors"]
    return {row["video_id"]: row for row in table.to_pylist()}, factors


def log_likelihood(side: Modality, rows: Sequence[dict[str, Any]], factors: dict[str, Any]) -> NDArray[np.float64]:
    """Return log p(what query q shows on ``side`` | music of item g) as (N, N), up to a constant per query."""
    total = np.zeros((len(rows), len(rows)))
    for name, factor in sorted(factors.items()):
        music: list[Any] = [row[f"music_{name}"] for row in rows]
        shown: list[Any] = [row.get(f"{side}_{name}") for row in rows]
        if all(value is None for value in shown):
            continue
        match factor["type"]:
            case "categorical":
                total += _categorical(shown, music, factor["cardinality"], factor[f"{side}_epsilon"])
            case "gaussian":
                total += _gaussian(shown, music, factor[f"{side}_sigma"])
            case "subset":
                total += _subset(shown, music, factor["cardinality"], factor[f"{side}_epsilon"])
            case other:
                raise ValueError(f"truth.parquet: factor '{name}' is of unknown type {other!r}")
    return total


def _categorical(shown: list[int], music: list[int], cardinality: int, epsilon: float) -> NDArray[np.float64]:
    same = np.array(shown)[:, None] == np.array(music)[None, :]
    likelihood: NDArray[np.float64] = np.log((1.0 - epsilon) * same + epsilon / cardinality)
    return likelihood


def _gaussian(shown: list[Any], music: list[Any], sigma: float) -> NDArray[np.float64]:
    there, true = (np.array(values, dtype=float).reshape(len(values), -1) for values in (shown, music))
    distance = ((there[:, None, :] - true[None, :, :]) / sigma) ** 2
    likelihood: NDArray[np.float64] = -0.5 * distance.sum(axis=2)
    return likelihood


def _subset(shown: list[list[int]], music: list[list[int]], cardinality: int, epsilon: float) -> NDArray[np.float64]:
    true = np.array(music)  # (N, size)
    out = np.zeros((len(shown), len(music)))
    for row, told in zip(out, shown, strict=True):
        # told_given[i, g, j] = p(i-th told value | the j-th value of item g was meant)
        told_given = (1.0 - epsilon) * (np.array(told)[:, None, None] == true[None]) + epsilon / cardinality
        orders = list(permutations(range(true.shape[1]), len(told)))
        terms = [np.prod([told_given[i, :, j] for i, j in enumerate(order)], axis=0) for order in orders]
        row[:] = np.log(np.sum(terms, axis=0) / len(orders))
    return out


def oracle_ranks(
    rows: Sequence[dict[str, Any]], factors: dict[str, Any], positives: NDArray[np.bool_], seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return the oracle's ranks (N,) per query mode over the pool of ``rows``.

    Equally likely items are ordered at random (seeded): to rank all ties last, as a model's are,
    would understate the limit.
    """
    known, rng = sides(rows, factors), np.random.default_rng(seed)
    return {
        mode: _ranks(np.sum([known[side] for side in parts], axis=0), positives, rng) for mode, parts in MODES.items()
    }


def counterfactual_ranks(
    rows: Sequence[dict[str, Any]],
    factors: dict[str, Any],
    positives: NDArray[np.bool_],
    donor: NDArray[np.int64],
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the oracle's ranks of each video's own track, and of the track whose text it is given, each (N,).

    Args:
        rows: of the truth, one per clip of the pool.
        factors: how the world errs.
        positives: (N, N), True where clips are of one track.
        donor: (N,) whose text each video is given.
        seed: of the order of equally likely items.
    """
    known, rng = sides(rows, factors), np.random.default_rng(seed)
    both = known[VIDEO] + known[TEXT][donor]
    return _ranks(both, positives, rng), _ranks(both, positives[donor], rng)


def sides(rows: Sequence[dict[str, Any]], factors: dict[str, Any]) -> dict[Modality, NDArray[np.float64]]:
    """Return the log-likelihoods (N, N) of every modality a query may show."""
    return {
        side: log_likelihood(side, rows, factors) for side in sorted({m for parts in MODES.values() for m in parts})
    }


def _ranks(likely: NDArray[np.float64], positives: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    # Rounding makes sums of the same terms in another order equal, as they are on paper.
    above, level = competitors(np.round(likely, 9), positives)
    rank: NDArray[np.int64] = 1 + above + rng.integers(0, level + 1)
    return rank


def ratio(model: RankMetrics, oracle: RankMetrics) -> OracleRatio:
    """Return the model's share of the oracle per recall and MRR; for median rank, oracle over model."""
    shares = {}
    for name in RankMetrics.model_fields:
        own, limit = getattr(model, name).value, getattr(oracle, name).value
        above, below = (limit, own) if name == "median_rank" else (own, limit)
        if below > 0:
            shares[name] = above / below
    return OracleRatio(**shares)
