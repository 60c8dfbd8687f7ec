"""Parameters of `validate`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.settings import Section

Severity = Literal["critical", "warning"]


class ShareLimit(Section):
    """A share and what it means to miss it."""

    share: float = Field(ge=0, le=1)
    """The limit, 0 to 1."""
    severity: Severity
    """critical stops the run, warning only shows in the report."""


class Range(Section):
    """A closed range."""

    low: float = Field(gt=0)
    """Smallest plausible value."""
    high: float = Field(gt=0)
    """Largest plausible value."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) must not exceed high ({self.high:g})")
        return self


class Validate(Section):
    """Section `validate` of ``params.yaml``."""

    most_quarantined: ShareLimit
    """Largest accepted share of media files in quarantine."""
    least_annotated: ShareLimit
    """Smallest accepted share of test clips with a human description."""
    least_clips: int = Field(ge=1)
    """Fewest clips in each of train, val and test."""
    duration_s: Range
    """Plausible length of a file, seconds."""
    fps: Range
    """Plausible frame rate, frames per second."""
    sample_rate_hz: Range
    """Plausible sample rate, Hz."""
