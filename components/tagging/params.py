"""Parameters of the ``tagging`` section."""

from typing import Annotated, Literal

from pydantic import Field

from components.settings import Section


class ProbeParams(Section):
    """A calibrated linear probe over music features, fitted on the seed library."""

    kind: Literal["probe"]
    """Which tagger: the linear probe."""
    threshold: Annotated[float, Field(ge=0, lt=1)]
    """A tag is kept from this probability on; the paper's is 0.30."""
    min_examples: Annotated[int, Field(ge=2)]
    """A tag with fewer tracks in the seed library is left out, in tracks."""
    folds: Annotated[int, Field(ge=2, le=20)]
    """Parts of the seed library for cross-validation."""
    l2: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    """Penalties on squared weights to choose from; the one that predicts left-out tracks best is used."""
    seed: Annotated[int, Field(ge=0)]
    """Decides which track is in which fold."""


TaggingParams = Annotated[ProbeParams, Field(discriminator="kind")]
