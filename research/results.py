"""Results of rows, averaged over seeds, with intervals over queries; and paired differences of rows.

Shapes: R seeds, Q queries, B resamples.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components import tables
from components.evaluation.bootstrap import cluster_weights, mean_interval
from components.evaluation.clusters import clusters_of
from components.evaluation.metrics_file import Interval, Metrics, read_metrics

RESAMPLES, SEED, CONFIDENCE = 10_000, 7, 0.95
CUTOFFS = (1, 5, 10)


@dataclass(frozen=True)
class Queries:
    """The queries of the study's test pools.

    Attributes:
        clips: (Q,) ids, sorted.
        weights: (B, Q) how often each counts in each resample, whole artists at a time.
    """

    clips: list[str]
    weights: NDArray[np.float32]

    def mean(self, values: NDArray[np.float64]) -> Interval:
        """Return the mean of values (Q,) with its interval."""
        return mean_interval(values, self.weights, CONFIDENCE)


@dataclass(frozen=True)
class RowResult:
    """What one row of a table reached.

    Attributes:
        folders: result folders, one per seed.
        ranks: by mode, (R, Q) ranks of the right track, video to music.
    """

    folders: tuple[Path, ...]
    ranks: dict[str, NDArray[np.int64]]

    @cached_property
    def metrics(self) -> list[Metrics]:
        """Return metrics.json of each seed."""
        return [read_metrics(folder / "metrics.json") for folder in self.folders]

    @cached_property
    def jobs(self) -> list[dict[str, Any]]:
        """Return job.json of each seed: sections, CPU seconds and facts of the fit."""
        return [json.loads((folder / "job.json").read_text(encoding="utf-8")) for folder in self.folders]

    def hits(self, mode: str, cutoff: int) -> NDArray[np.float64]:
        """Return (Q,): the share of seeds whose rank is within the cutoff."""
        hits: NDArray[np.float64] = (self.ranks[mode] <= cutoff).mean(axis=0)
        return hits

    def median(self, mode: str) -> float:
        """Return the median rank over queries and seeds."""
        return float(np.median(self.ranks[mode]))


def read_queries(folder: Path, manifest: Path) -> Queries:
    """Return the queries of a result, resampled by cluster as the evaluation does."""
    ranks = _ranks(folder, "ranks.parquet")
    clips = sorted(next(iter(ranks.values())))
    rows = {row["clip_id"]: row for row in tables.read_rows(manifest, tables.MANIFEST)}
    clusters = clusters_of([rows[clip] for clip in clips])
    return Queries(clips, cluster_weights(clusters, RESAMPLES, SEED))


def read_row(folders: Sequence[Path], queries: Queries, file: str = "ranks.parquet") -> RowResult:
    """Return a row's results; ``file`` may be that of the oracle."""
    seeds = [_ranks(folder, file) for folder in folders]
    modes = set.intersection(*(set(one) for one in seeds))
    ranks = {
        mode: np.array([[one[mode][clip] for clip in queries.clips] for one in seeds])
        for mode in sorted(modes)
        if all(len(one[mode]) == len(queries.clips) for one in seeds)
    }
    return RowResult(tuple(folders), ranks)


def difference(a: RowResult, b: RowResult, mode: str, queries: Queries, cutoff: int = 10) -> Interval:
    """Return the recall of a minus that of b on the same queries, with the interval of the difference."""
    return queries.mean(a.hits(mode, cutoff) - b.hits(mode, cutoff))


def divided(interval: Interval, by: float) -> Interval:
    """Return a figure and the ends of its interval over a number above 0."""
    return Interval(value=interval.value / by, low=interval.low / by, high=interval.high / by)


def bracketed(interval: Interval, digits: int = 3, sign: bool = False) -> str:
    """Return a figure in words: its value, and the ends of its interval in brackets."""
    plus = "+" if sign else ""
    return f"{interval.value:{plus}.{digits}f} [{interval.low:{plus}.{digits}f}, {interval.high:{plus}.{digits}f}]"


def _ranks(folder: Path, file: str) -> dict[str, dict[str, int]]:
    ranks: dict[str, dict[str, int]] = {}
    for row in tables.read_rows(folder / file):
        if (row.get("level", "track"), row.get("direction", "video_to_music")) == ("track", "video_to_music"):
            ranks.setdefault(row["mode"], {})[row["clip_id"]] = row["rank"]
    return ranks
