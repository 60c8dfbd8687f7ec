"""gate.yaml: what a model version must show before it may be promoted."""

from pathlib import Path

from pydantic import Field

from components.settings import Section
from flows.policy import Policy, read_policy

NAME = "gate.yaml"
SHIPPED = Path(__file__).with_name(NAME)


class Margins(Section):
    """How much worse the challenger may be, at most."""

    video: float = Field(gt=0, lt=1)
    """Share of queries: loss of R@10 for video alone."""
    text: float = Field(gt=0, lt=1)
    """Share of queries: loss of R@10 for text alone."""
    worst_slice: float = Field(gt=0, lt=1)
    """Share of queries: loss of R@10 for video+text in the slice that a model serves worst."""
    coverage: float = Field(gt=0, lt=1)
    """Share of the test catalogue: loss of tracks that are in some list of ten."""
    latency: float = Field(gt=0, le=10)
    """Share of the champion's time per query that the challenger may take more; 0.25 is a quarter longer. A miss counts
    when two measurements in turns show it."""


class Floors(Section):
    """What a model must show while there is no champion to compare it with."""

    times_chance: float = Field(gt=1, le=1000)
    """Multiple of chance that R@10 for video+text must reach at its interval's low end."""
    above_cca: bool
    """Whether it must also be shown better than canonical correlation analysis fitted on the same data."""


class GateSettings(Policy):
    """The gate."""

    seed: int = Field(ge=0, lt=2**63)
    """Seed of the subsets of artists that are drawn."""
    resamples: int = Field(ge=200, le=100_000)
    """Subsets of artists behind each interval, drawn at random; where there are fewer, each is taken once."""
    confidence: float = Field(gt=0.5, lt=1)
    """Coverage of the two-sided intervals; at 0.95 an equal model passes as better at most 2.5 % of the time, by however few
    artists the queries are, and fewer than 6 artists show nothing."""
    power: float = Field(gt=0.5, lt=1)
    """Chance of finding it with which the smallest detectable difference is stated."""
    minimum_effect: float = Field(gt=0, lt=1)
    """Share of queries: least gain of R@10 for video+text that is worth a promotion."""
    margins: Margins
    """Guardrails against the champion."""
    least_slice: int = Field(ge=2)
    """Queries: a genre, mood or length with fewer is shown and not judged."""
    floors: Floors
    """Guardrails without a champion."""
    latency_rounds: int = Field(ge=5, le=1000)
    """Queries that each model answers, in turns, to be timed."""
    examples: int = Field(ge=0, le=20)
    """Biggest wins on the page, and as many losses."""
    media_mib: float = Field(ge=0, le=100)
    """MiB of clips that are put into the page; what does not fit is named by its path."""


def read_settings(root: Path) -> GateSettings:
    """Read the workspace's gate.yaml, or the one that comes with the platform.

    Raises:
        Refusal: it is wrong; the message names file, key, value and rule. Exit code 2.
    """
    return read_policy(GateSettings, "gate", root, SHIPPED)
