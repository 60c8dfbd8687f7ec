"""What the ranks of music videos amount to: figures with intervals, differences, and a table."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval, cluster_weights, intervals
from components.evaluation.difference import paired_difference

SEED: Final = 0
FINE: Final = 100_000  # folds differ by a track or two in size: ranks are shares of N, in whole parts of this


@dataclass(frozen=True)
class Query:
    """A video and where each system ranks its music.

    Attributes:
        id: of the track.
        artist: whose queries are resampled together.
        fold: it was tested in.
        candidates: N, the tracks of the fold.
        rank: by system, 1 = first.
        members: ranks by each of the towers whose scores are added.
    """

    id: str
    artist: str
    fold: int
    candidates: int
    rank: dict[str, int]
    members: list[int]


def report(queries: Sequence[Query], resamples: int, confidence: float) -> dict[str, Any]:
    """Return median rank over N and R@10 per system, what towers gain over CCA, rows and lines."""
    artists = [query.artist for query in queries]
    weights = cluster_weights(artists, resamples, SEED)
    systems = {
        name: {
            "median_share": _scaled(intervals(_shares(queries, name), weights, confidence)["MedR"]),
            "R@10": intervals(_ranks(queries, name), weights, confidence)["R@10"],
        }
        for name in queries[0].rank
    }
    pair = (artists, resamples, SEED, confidence)
    gain = {
        "median_share": _scaled(paired_difference(_shares(queries, "towers"), _shares(queries, "CCA"), *pair)["MedR"]),
        "R@10": paired_difference(_ranks(queries, "towers"), _ranks(queries, "CCA"), *pair)["R@10"],
    }
    sizes = [next(q.candidates for q in queries if q.fold == fold) for fold in sorted({q.fold for q in queries})]
    members = np.array([query.members for query in queries])  # (Q, members)
    candidates = np.array([query.candidates for query in queries])
    alone = {
        "median_share": float(np.median(members / candidates[:, None], axis=0).mean()),
        "R@10": float((members <= 10).mean()),
    }
    chance = {
        "median_share": float(np.mean((candidates + 1) / 2 / candidates)),
        "R@10": float(np.mean(10 / candidates)),
    }
    found = {
        "systems": systems, "towers_minus_CCA": gain, "one_tower_alone": alone, "towers_added": members.shape[1],
        "chance": chance, "videos": len(queries), "artists": len(set(artists)), "candidates": sizes,
    }  # fmt: skip
    return found | {"queries": [asdict(query) for query in queries], "lines": list(_lines(found))}


def _ranks(queries: Sequence[Query], name: str) -> NDArray[np.int64]:
    return np.array([query.rank[name] for query in queries], np.int64)


def _shares(queries: Sequence[Query], name: str) -> NDArray[np.int64]:
    return np.array([max(1, round(FINE * query.rank[name] / query.candidates)) for query in queries], np.int64)


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
        shown = f"towers ({found['towers_added']} a fold, scores added)" if name == "towers" else name
        yield f"| {shown} | {_cell(figures['median_share'])} | {_cell(figures['R@10'])} |"
        if name == "towers":
            alone = found["one_tower_alone"]
            yield f"| one of the towers, on average | {alone['median_share']:.3f} | {alone['R@10']:.3f} |"
    gain = found["towers_minus_CCA"]
    yield f"| towers minus CCA, paired | {_cell(gain['median_share'], '+')} | {_cell(gain['R@10'], '+')} |"


def _cell(found: Interval, sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
