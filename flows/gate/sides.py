"""What is compared: two systems' ranks of the same queries.

Ranks are of video-to-music retrieval over whole tracks, 1 = first. Q queries, by clip id.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.evaluation.metrics_file import FUSED, Mode

NAMES: Final[dict[Mode, str]] = {FUSED: "video and text", "video": "video alone", "text": "text alone"}
AMONG_FIRST: Final = 10  # the k of R@k


@dataclass(frozen=True)
class Queries:
    """What both were asked.

    Attributes:
        clips: (Q,) clip ids, ascending.
        clusters: (Q,) which queries are alike, see `components.evaluation.clusters`.
        number: (Q,) the pool of each.
        pool: clips in a pool.
        chance: R@10 of a random order.
        text_source: whose words the texts are.
        data: what else names the data, such as extractor specs; part of the digest.
        labels: names (Q,) by what slices are cut by; None where a clip has none.
        rows: manifest rows by clip id; may lack clips.
        texts: the words of each query, where there are any.
        left_out: clips that are not asked about, since a side learnt from them; by clip id, in words.
    """

    clips: tuple[str, ...]
    clusters: tuple[str, ...]
    number: tuple[int, ...]
    pool: int
    chance: float
    text_source: str
    data: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clips)

    def only(self, kept: NDArray[np.bool_]) -> "Queries":
        """Return those of them (Q,) that are kept."""
        return replace(
            self,
            clips=tuple(itertools.compress(self.clips, kept)),
            clusters=tuple(itertools.compress(self.clusters, kept)),
            number=tuple(itertools.compress(self.number, kept)),
            labels={by: tuple(itertools.compress(names, kept)) for by, names in self.labels.items()},
        )

    @property
    def digest(self) -> str:
        """Return the test digest: which queries, in which pools, clustered how, from which features."""
        told = [self.clips, self.clusters, self.number, self.pool, self.text_source, sorted(self.data.items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True)
class Side:
    """One of the two systems.

    Attributes:
        name: as the page calls it, such as "version 4".
        ranks: (Q,) by query mode.
        top: (Q,) clip id of the first answer, by query mode.
        coverage: share of the test catalogue that is in some list of ten, by query mode; empty if not known.
        latency_ms: (measurements, rounds) time per query; None if not measured.
        facts: what names it, for the provenance.
        unread: why, by clip id, where its extractors could not read a test clip, which counts as not found.
    """

    name: str
    ranks: Mapping[Mode, NDArray[np.int64]]
    top: Mapping[Mode, NDArray[np.str_]]
    coverage: Mapping[Mode, float] = field(default_factory=dict)
    latency_ms: NDArray[np.float64] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    def only(self, kept: NDArray[np.bool_]) -> "Side":
        """Return it with those queries (Q,) that are kept; with none, it has no mode."""
        modes = list(self.ranks) if kept.any() else []
        return replace(
            self,
            ranks={mode: self.ranks[mode][kept] for mode in modes},
            top={mode: self.top[mode][kept] for mode in modes},
        )

    def hits(self, mode: Mode) -> NDArray[np.bool_]:
        """Return (Q,) whether the right track is among the first ten."""
        hit: NDArray[np.bool_] = self.ranks[mode] <= AMONG_FIRST
        return hit
