"""Chance: scores without any structure."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import Gathers
from components.modalities import Modality


class ChanceScorer:
    """A random number per (query, item, mode, seed): the same for a pair whatever else is in the pool."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        """Return uniform numbers (N, N) from 0 to 1."""
        query, item = (np.array([self._hash(f"{side}:{mode}:{clip}") for clip in ids], np.uint64) for side in "qi")
        mixed = query[:, None] ^ item[None, :]
        # The finaliser of SplitMix64: every bit of the input changes half the bits of the output.
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
        return ((mixed >> np.uint64(40)) / 2.0**24).astype(np.float32)

    def _hash(self, text: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._seed}:{text}".encode()).digest()[:8], "little")
