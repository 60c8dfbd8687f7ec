"""drift.yaml: when new media count as drift, and how often that may start a retrain."""

from pathlib import Path

from pydantic import Field

from components.settings import Section
from flows.policy import Policy, read_policy

NAME = "drift.yaml"
SHIPPED = Path(__file__).with_name(NAME)


class Calibration(Section):
    """How the decision is tried on windows of the reference itself, which have no drift (A/A)."""

    windows: int = Field(ge=0, le=1000)
    """A/A windows for each size."""
    sizes: tuple[int, ...]
    """Clips in an A/A window; sizes that the reference cannot fill are left out."""
    permutations: int = Field(ge=99, le=10_000)
    """Permutations behind each p-value of an A/A window."""
    most_clips: int = Field(ge=50)
    """Clips of the reference in a test of an A/A window."""


class Retrains(Section):
    """What drift may start."""

    per_week: int = Field(ge=0, le=1000)
    """Retrains that drift may start within seven days; 0 only reports."""
    apart_h: float = Field(ge=0)
    """Hours between two of them."""


class DriftSettings(Policy):
    """The decision."""

    seed: int = Field(ge=0, lt=2**63)
    """Seed of the permutations and folds."""
    false_alarms: float = Field(gt=0, lt=0.5)
    """Share of windows without drift for which the whole decision may raise an alarm, at most."""
    least_clips: int = Field(ge=10)
    """New clips below which there is too little to tell."""
    least_groups: int = Field(ge=4)
    """Artists among the new clips (videos where artists are unknown) below which there is too little to tell."""
    most_clips: int = Field(ge=50)
    """Clips of each side that a test takes, drawn by chance; bounds its time and memory."""
    components: int = Field(ge=2, le=256)
    """Principal components of each modality's features."""
    permutations: int = Field(ge=199, le=100_000)
    """Permutations behind each p-value."""
    folds: int = Field(ge=2, le=20)
    """Folds of the domain classifier."""
    calibration: Calibration
    """A/A windows."""
    reference_clips: int = Field(ge=50)
    """Clips of a corpus that are kept with its model version to compare with."""
    retrains: Retrains
    """Budget."""


def read_settings(root: Path) -> DriftSettings:
    """Read the workspace's drift.yaml, or the one that comes with the platform.

    Raises:
        Refusal: it is wrong; the message names file, key, value and rule. Exit code 2.
    """
    return read_policy(DriftSettings, "drift", root, SHIPPED)
