"""Section ``evaluation`` of params.yaml: pools, slices, guidance and intervals."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from components.settings import Section


class EvaluationSection(Section):
    """How the model is measured."""

    seed: int = Field(ge=0, lt=2**63)
    """Seed of the pools' draw, of the exchanged texts and of the bootstrap."""
    threads: int = Field(ge=1, le=256)
    """CPU threads; part of the result, since float sums depend on how work is cut."""
    pool_size: int | None = Field(ge=2)
    """Clips in a retrieval pool, drawn without replacement from the test clips; null takes all. The paper has 2,000."""
    pools: int | None = Field(ge=1)
    """Pools of that size that share no clip, each query ranked within its own; null makes as many as fit."""
    least_test_clips: int = Field(ge=2)
    """Fewer test clips than this are refused."""
    resamples: int = Field(ge=20, le=100_000)
    """Bootstrap resamples behind each interval."""
    confidence: float = Field(gt=0.5, lt=1)
    """Coverage of the intervals, for example 0.95."""
    guidance: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    """Weights of the text at which video and text embeddings are mixed, ascending, 0 to 1; empty for no sweep."""
    least_slice: int = Field(ge=1)
    """Slices (a genre, a mood, a length) of fewer queries than this are left out."""
    length_edges_s: tuple[Annotated[float, Field(gt=0)], ...]
    """Seconds at which the slices by clip length are cut, ascending; empty for one slice."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pool_size is None and self.pools not in (None, 1):
            raise ValueError(f"pools ({self.pools}) needs a pool_size; with pool_size null all clips are one pool")
        for name, values in (("guidance", self.guidance), ("length_edges_s", self.length_edges_s)):
            if any(later <= earlier for earlier, later in pairwise(values)):
                raise ValueError(f"{name} must be ascending, each value once: {list(values)}")
        return self
