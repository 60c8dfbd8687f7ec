"""What the ranks of music videos amount to: figures with intervals, differences, and a table."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval, cluster_weights, intervals
from components.evaluation.difference import paired_difference

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


def report(queries: Sequence[Query], resamples: int, confidence: float) -> dict[str, Any]:
    """Return median rank over N and R@10 per system, what towers gain over CCA, rows and lines."""
    artists = [query.artist for query in queries]
    weights = cluster_weights(artists, resamples, SEED)
    systems = {}
    for name, runs in queries[0].rank.items():
        every = np.tile(weights, len(runs))  # an artist's queries stay together over the runs
        systems[name] = {
            "median_share": _scaled(intervals(_shares(queries, name), every, confidence)["MedR"]),
            "R@10": intervals(_ranks(queries, name), every, confidence)["R@10"],
        }
    pair = (artists, resamples, SEED, confidence)
    gain = {
        "median_share": _scaled(paired_difference(_shares(queries, "towers"), _shares(queries, "CCA"), *pair)["MedR"]),
        "R@10": paired_difference(_ranks(queries, "towers"), _ranks(queries, "CCA"), *pair)["R@10"],
    }
    sizes = [next(q.candidates for q in queries if q.fold == fold) for fold in sorted({q.fold for q in queries})]
    candidates = np.array([query.candidates for query in queries])
    chance = {
        "median_share": float(np.mean((candidates + 1) / 2 / candidates)),
        "R@10": float(np.mean(10 / candidates)),
    }
    found = {
        "systems": systems, "towers_minus_CCA": gain, "runs": {name: len(runs) for name, runs in queries[0].rank.items()},
        "chance": chance, "videos": len(queries), "artists": len(set(artists)), "candidates": sizes,
    }  # fmt: skip
    return found | {"queries": [asdict(query) for query in queries], "lines": list(_lines(found))}


def _ranks(queries: Sequence[Query], name: str) -> NDArray[np.int64]:
    """Return the ranks (runs x Q,) of a system, run after run."""
    found: NDArray[np.int64] = np.array([query.rank[name] for query in queries], np.int64).T.ravel()
    return found


def _shares(queries: Sequence[Query], name: str) -> NDArray[np.int64]:
    found = [[max(1, round(FINE * rank / query.candidates)) for rank in query.rank[name]] for query in queries]
    every: NDArray[np.int64] = np.array(found, np.int64).T.ravel()
    return every


def _scaled(found: Interval) -> Interval:
    return {name: value / FINE for name, value in found.items()}


def _lines(found: dict[str, Any]) -> Iterator[str]:
    low, high = min(found["candidates"]), max(found["candidates"])
    yield (
        f"{found['videos']} videos of {found['artists']} artists (those who made songs together count as one), "
        f"{len(found['candidates'])} artist-disjoint folds of {low} to {high} candidates, one 60-s window of each track. "
        "No text is known of them: this is video to music alone. Brackets are 95 % intervals over artists."
    )
    yield ""
    yield "| system | median rank / N | R@10 |"
    yield "|---|---|---|"
    yield f"| chance | {found['chance']['median_share']:.3f} | {found['chance']['R@10']:.3f} |"
    for name, figures in found["systems"].items():
        shown = f"towers, {found['runs'][ONE]} a fold, scores added" if name == "towers" else name
        shown += f" ({found['runs'][name]} draws a fold)" if "shuffled" in name else ""
        yield f"| {shown} | {_cell(figures['median_share'])} | {_cell(figures['R@10'])} |"
    gain = found["towers_minus_CCA"]
    yield f"| towers minus CCA, paired | {_cell(gain['median_share'], '+')} | {_cell(gain['R@10'], '+')} |"


def _cell(found: Interval, sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
