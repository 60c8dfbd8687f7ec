"""Which described clips a prompt shows: by chance, the nearest, or near and unlike each other.

K exemplars in the pool, T tags.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from components.captioning.captioner import Exemplar, Tagged, chance
from components.captioning.params import DiverseExemplars, NearestExemplars, PromptParams, RandomExemplars
from components.modalities import TAG_GROUPS

_DECIMALS = 9  # of a likeness: sums of another order must not change the choice
_SHORT_LIST = 8  # candidates looked at for each exemplar to be chosen by `diverse`


class Selection(Protocol):
    """Chooses a clip's exemplars; the same pool and clip always give the same choice."""

    def choose(self, clip: Tagged, attempt: int) -> list[Exemplar]:
        """Return up to the wanted number of exemplars, never the clip itself."""
        ...


def build_selection(params: PromptParams, pool: Sequence[Exemplar], seed: int) -> Selection:
    """Return the selection that the section asks for.

    Args:
        params: how many exemplars, and chosen how.
        pool: described train clips that can stand in a prompt, sorted by clip.
        seed: of what is left to chance.
    """
    match params.selection:
        case RandomExemplars(sets=sets):
            return _Random(pool, params.exemplars, sets, seed)
        case NearestExemplars():
            return _Relevant(pool, params.exemplars, 1.0)
        case DiverseExemplars(relevance=relevance):
            return _Relevant(pool, params.exemplars, relevance)
        case _:
            assert_never(params.selection)


class _Random:
    """One of ``sets`` draws per clip and attempt.

    A draw takes the exemplars of the lowest hashes, so that a described clip more or less changes
    few draws: the captions of the others stay.
    """

    def __init__(self, pool: Sequence[Exemplar], count: int, sets: int, seed: int) -> None:
        self._pool, self._count, self._sets, self._seed = pool, count, sets, seed
        self._members = cache(self._draw)

    def choose(self, clip: Tagged, attempt: int) -> list[Exemplar]:
        number = chance(self._seed, "set", clip.clip_id, str(attempt)).randrange(self._sets)
        others = [self._pool[at] for at in self._members(number) if self._pool[at].clip.clip_id != clip.clip_id]
        return others[: self._count]

    def _draw(self, number: int) -> list[int]:
        def rank(at: int) -> bytes:
            listed = [self._seed, number, self._pool[at].clip.clip_id]
            return hashlib.sha256(json.dumps(listed).encode()).digest()

        return sorted(range(len(self._pool)), key=rank)[: self._count + 1]


class _Relevant:
    """Maximal marginal relevance by the cosine of tag probabilities; the most relevant stands last."""

    def __init__(self, pool: Sequence[Exemplar], count: int, relevance: float) -> None:
        self._pool, self._count, self._relevance = pool, count, relevance
        names = sorted({(group, name) for item in pool for group in TAG_GROUPS for name, _ in item.clip.tags[group]})
        self._place = {tag: at for at, tag in enumerate(names)}
        self._ids = np.array([item.clip.clip_id for item in pool])
        self._vectors = np.array([self._vector(item.clip) for item in pool])  # (K, T), unit length

    def choose(self, clip: Tagged, attempt: int) -> list[Exemplar]:
        likeness = np.round(self._vectors @ self._vector(clip), _DECIMALS)
        order = np.lexsort((self._ids, -likeness))
        candidates = [int(at) for at in order if self._ids[at] != clip.clip_id][: self._count * _SHORT_LIST]
        chosen: list[int] = []
        while candidates and len(chosen) < self._count:
            best = max(candidates, key=lambda at: (self._gain(at, likeness, chosen), -candidates.index(at)))
            chosen.append(best)
            candidates.remove(best)
        return [self._pool[at] for at in reversed(chosen)]

    def _gain(self, at: int, likeness: NDArray[np.float64], chosen: Sequence[int]) -> float:
        if not chosen:
            return float(likeness[at])
        nearest = float(np.max(self._vectors[list(chosen)] @ self._vectors[at]))
        return round(self._relevance * float(likeness[at]) - (1 - self._relevance) * nearest, _DECIMALS)

    def _vector(self, clip: Tagged) -> NDArray[np.float64]:
        vector = np.zeros(len(self._place))
        for group in TAG_GROUPS:
            for name, probability in clip.tags[group]:
                if (group, name) in self._place:
                    vector[self._place[group, name]] = probability
        length = np.linalg.norm(vector)
        return vector / length if length else vector
