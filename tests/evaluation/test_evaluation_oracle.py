"""The oracle on tiny worlds whose probabilities are worked out by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluation.metrics_file import Interval, OracleRatio, RankMetrics
from components.evaluation.oracle import log_likelihood, oracle_ranks, ratio, read_truth

FACTORS: dict[str, Any] = {
    "mood": {"type": "categorical", "cardinality": 4, "video_epsilon": 0.2, "text_epsilon": 0.4},
    "tempo": {"type": "gaussian", "dims": 1, "video_sigma": 0.5},
    "instruments": {"type": "subset", "cardinality": 5, "size": 2, "text_epsilon": 0.1},
}


def row(
    mood: int, tempo: float, instruments: list[int], told: list[int], seen: tuple[int, float], heard: int
) -> dict[str, Any]:
    return {
        "music_mood": mood, "video_mood": seen[0], "text_mood": heard,
        "music_tempo": [tempo], "video_tempo": [seen[1]], "text_tempo": None,
        "music_instruments": instruments, "video_instruments": None, "text_instruments": told,
    }  # fmt: skip


ROWS = [
    row(0, 0.0, [0, 1], [1], (0, 0.1), 0),
    row(1, 0.5, [1, 2], [2, 3], (1, 0.4), 3),
    row(0, 2.0, [3, 4], [4, 3], (0, 2.0), 0),
]


def test_video_side_by_hand() -> None:
    found = log_likelihood("video", ROWS, FACTORS)
    same, other = math.log(0.8 + 0.05), math.log(0.05)
    assert found[0, 0] == pytest.approx(same - 0.5 * (0.1 / 0.5) ** 2)
    assert found[0, 1] == pytest.approx(other - 0.5 * (0.4 / 0.5) ** 2)
    assert found[0, 2] == pytest.approx(same - 0.5 * (1.9 / 0.5) ** 2)


def test_text_side_by_hand() -> None:
    found = log_likelihood("text", ROWS, FACTORS)
    moods = {True: math.log(0.6 + 0.1), False: math.log(0.1)}
    hit, miss = 0.9 + 0.02, 0.02
    # One instrument is told: the one meant is either of the two that play.
    assert found[0, 0] == pytest.approx(moods[True] + math.log((hit + miss) / 2))
    assert found[0, 2] == pytest.approx(moods[True] + math.log(miss))
    # Two are told, in either order, never the same one twice: 2 then 3, where 1 and 2 play.
    assert found[1, 1] == pytest.approx(moods[False] + math.log((hit * miss + miss * miss) / 2))
    assert found[2, 2] == pytest.approx(moods[True] + math.log((hit * hit + miss * miss) / 2))


def test_likelihoods_are_probabilities() -> None:
    # Over everything that could be told of one piece of music, the probabilities sum to one.
    factors = {"instruments": FACTORS["instruments"]}
    total = 0.0
    for first in range(5):
        for second in range(5):
            rows = [row(0, 0.0, [1, 2], [first, second], (0, 0.0), 0)]
            total += math.exp(log_likelihood("text", rows, factors)[0, 0])
    assert total == pytest.approx(1.0)


def test_ranks_follow_the_likelihood_and_add_over_sides() -> None:
    found = oracle_ranks(ROWS, FACTORS, np.eye(3, dtype=bool), seed=0)
    assert set(found) == {"video", "text", "video+text"}
    assert found["video"].tolist() == [1, 1, 1]
    both = log_likelihood("video", ROWS, FACTORS) + log_likelihood("text", ROWS, FACTORS)
    expected = [1 + int((scores > scores[at]).sum()) for at, scores in enumerate(both)]
    assert found["video+text"].tolist() == expected


def test_equally_likely_items_are_ordered_by_chance_not_last() -> None:
    rows = [row(0, 0.0, [0, 1], [0], (0, 0.0), 0)] * 101
    found = oracle_ranks(rows, {"mood": FACTORS["mood"]}, np.eye(101, dtype=bool), seed=0)["text"]
    assert abs(found.mean() - 51) < 10
    assert found.min() >= 1
    assert found.max() <= 101
    np.testing.assert_array_equal(
        found, oracle_ranks(rows, {"mood": FACTORS["mood"]}, np.eye(101, dtype=bool), seed=0)["text"]
    )


def test_no_ranking_beats_the_oracle_in_its_own_world() -> None:
    rng = np.random.default_rng(0)
    count = 300
    mood, tempo = rng.integers(4, size=count), rng.normal(size=count)
    shown = np.where(rng.random(count) < 0.2, rng.integers(4, size=count), mood)
    seen = tempo + 0.5 * rng.normal(size=count)
    rows = [row(int(mood[i]), float(tempo[i]), [0, 1], [0], (int(shown[i]), float(seen[i])), 0) for i in range(count)]
    factors = {"mood": FACTORS["mood"], "tempo": FACTORS["tempo"]}
    best = oracle_ranks(rows, factors, np.eye(count, dtype=bool), seed=0)["video"]
    for changed in ({"video_epsilon": 0.9}, {"video_epsilon": 0.001}):
        worse = factors | {"mood": factors["mood"] | changed}
        rank = oracle_ranks(rows, worse, np.eye(count, dtype=bool), seed=0)["video"]
        assert np.mean(1 / best) >= np.mean(1 / rank) - 0.01


def test_truth_file(tmp_path: Path) -> None:
    path = tmp_path / "truth.parquet"
    table = pa.Table.from_pylist([{"video_id": "a", "music_mood": 1, "video_mood": 2, "text_mood": None}])
    pq.write_table(table.replace_schema_metadata({b"world": json.dumps({"factors": {"mood": FACTORS["mood"]}})}), path)
    read = read_truth(path)
    assert read is not None
    assert read[0]["a"]["video_mood"] == 2
    assert read[1]["mood"]["cardinality"] == 4
    pq.write_table(table, path)
    with pytest.raises(ValueError, match="no 'world' in the schema metadata"):
        read_truth(path)
    pq.write_table(table.slice(0, 0), path)
    assert read_truth(path) is None


def test_a_strange_factor_is_named() -> None:
    with pytest.raises(ValueError, match="factor 'mood' is of unknown type 'odd'"):
        log_likelihood("video", ROWS, {"mood": {"type": "odd"}})


def test_ratio() -> None:
    own, limit = (
        RankMetrics(
            **{name: Interval(value=v, low=v, high=v) for name, v in zip(RankMetrics.model_fields, vs, strict=True)}
        )
        for vs in ((0.1, 0.1, 0.4, 8.0, 0.1), (0.1, 0.4, 0.8, 4.0, 0.0))
    )
    # Of the median rank the oracle's is the smaller; a limit of 0 has no share.
    assert ratio(own, limit) == OracleRatio(recall_at_1=1.0, recall_at_5=0.25, recall_at_10=0.5, median_rank=0.5)
