"""What the ranks of music videos amount to: figures with intervals, differences, and the lines of the page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import cluster_weights, intervals
from components.evaluation.difference import paired_difference
from components.evaluation.metrics_file import Figures, Interval, RankMetrics
from research.results import bracketed, divided

SEED: Final = 0
ONE: Final = "one of the towers, on average"
FINE: Final = 100_000  # folds differ by a track or two in size: ranks are shares of N, in whole parts of this


@dataclass(frozen=True)
class Query:
    """A video and where each system ranks its music.

    Attributes:
        id: of the track.
        artist: whose queries are resampled together.
        fold: it was tested in.
        candidates: N, the tracks of the fold.
        rank: by system, one for each of its runs; 1 = first.
    """

    id: str
    artist: str
    fold: int
    candidates: int
    rank: dict[str, list[int]]


class SystemFigures(Figures):
    """How well a system ranks the music of videos."""

    median_share: Interval
    """Median rank as a share of the candidates, 0 to 1; lower is better."""
    recall_at_10: Interval
    """Share of queries, 0 to 1, whose music is among the first ten."""


class ChanceFigures(Figures):
    """The same of a random order, as expectations."""

    median_share: float
    """Median rank as a share of the candidates."""
    recall_at_10: float
    """Share of queries whose music is among the first ten."""


class VideoReport(Figures):
    """What was measured on music videos."""

    systems: dict[str, SystemFigures]
    """By the system's name."""
    towers_minus_cca: SystemFigures
    """Paired differences on the same queries."""
    runs: dict[str, int]
    """Trainings or draws of each system in a fold."""
    chance: ChanceFigures
    """Of a random order."""
    candidates: tuple[int, ...]
    """Tracks of each fold."""
    queries: tuple[Query, ...]
    """Every video and where each system ranks its music."""
    left_out: int = 0
    """Tracks that are shorter than a window."""
    seconds: float = 0.0
    """What it took."""

    @property
    def artists(self) -> int:
        """Return how many artists the queries are of."""
        return len({query.artist for query in self.queries})

    def lines(self) -> Iterator[str]:
        """Yield the lines of the page."""
        low, high = min(self.candidates), max(self.candidates)
        yield (
            f"{len(self.queries)} videos of {self.artists} artists (those who made songs together count as one), "
            f"{len(self.candidates)} artist-disjoint folds of {low} to {high} candidates, one 60-s window of each track. "
            "No text is known of them: this is video to music alone. Brackets are 95 % intervals over artists."
        )
        yield ""
        yield "| system | median rank / N | R@10 |"
        yield "|---|---|---|"
        yield f"| chance | {self.chance.median_share:.3f} | {self.chance.recall_at_10:.3f} |"
        for name, figures in self.systems.items():
            shown = f"towers, {self.runs[ONE]} a fold, scores added" if name == "towers" else name
            shown += f" ({self.runs[name]} draws a fold)" if "shuffled" in name else ""
            yield f"| {shown} | {bracketed(figures.median_share)} | {bracketed(figures.recall_at_10)} |"
        gain = self.towers_minus_cca
        yield f"| towers minus CCA, paired | {bracketed(gain.median_share, sign=True)} | {bracketed(gain.recall_at_10, sign=True)} |"


def report(queries: Sequence[Query], resamples: int, confidence: float) -> VideoReport:
    """Return median rank over N and R@10 per system, and what towers gain over CCA."""
    artists = [query.artist for query in queries]
    weights = cluster_weights(artists, resamples, SEED)
    systems = {}
    for name, runs in queries[0].rank.items():
        every = np.tile(weights, len(runs))  # an artist's queries stay together over the runs
        systems[name] = SystemFigures(
            median_share=divided(intervals(_shares(queries, name), every, confidence).median_rank, FINE),
            recall_at_10=intervals(_ranks(queries, name), every, confidence).recall_at_10,
        )

    def gain(of: Callable[[Sequence[Query], str], NDArray[np.int64]]) -> RankMetrics:
        return paired_difference(of(queries, "towers"), of(queries, "CCA"), artists, resamples, SEED, confidence)

    sizes = [next(q.candidates for q in queries if q.fold == fold) for fold in sorted({q.fold for q in queries})]
    candidates = np.array([query.candidates for query in queries])
    return VideoReport(
        systems=systems,
        towers_minus_cca=SystemFigures(
            median_share=divided(gain(_shares).median_rank, FINE),
            recall_at_10=gain(_ranks).recall_at_10,
        ),
        runs={name: len(runs) for name, runs in queries[0].rank.items()},
        chance=ChanceFigures(
            median_share=float(np.mean((candidates + 1) / 2 / candidates)),
            recall_at_10=float(np.mean(10 / candidates)),
        ),
        candidates=tuple(sizes),
        queries=tuple(queries),
    )


def _ranks(queries: Sequence[Query], name: str) -> NDArray[np.int64]:
    """Return the ranks (runs x Q,) of a system, run after run."""
    ranks: NDArray[np.int64] = np.array([query.rank[name] for query in queries], np.int64).T.ravel()
    return ranks


def _shares(queries: Sequence[Query], name: str) -> NDArray[np.int64]:
    """Return the same as shares of the candidates, in parts of ``FINE``."""
    shares = [[max(1, round(FINE * rank / query.candidates)) for rank in query.rank[name]] for query in queries]
    every: NDArray[np.int64] = np.array(shares, np.int64).T.ravel()
    return every
