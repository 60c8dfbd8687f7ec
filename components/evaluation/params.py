"""Section ``evaluation`` of params.yaml: the pool and the intervals."""

from pydantic import Field

from components.settings import Section


class EvaluationSection(Section):
    """How the model is measured."""

    seed: int = Field(ge=0, lt=2**63)
    """Seed of the pool's draw and of the bootstrap."""
    threads: int = Field(ge=1, le=256)
    """CPU threads; part of the result, since float sums depend on how work is cut."""
    pool_size: int | None = Field(ge=2)
    """Clips in the retrieval pool, drawn without replacement from the test clips; null takes all. The paper has 2,000."""
    least_test_clips: int = Field(ge=2)
    """Fewer test clips than this are refused."""
    resamples: int = Field(ge=20, le=100_000)
    """Bootstrap resamples behind each interval."""
    confidence: float = Field(gt=0.5, lt=1)
    """Coverage of the intervals, for example 0.95."""
