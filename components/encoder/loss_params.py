"""Key ``loss`` of section ``encoder``: the training objective, its terms and what counts as a negative."""

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from components.settings import Section

Term = Literal["fused-music", "video-music", "text-music", "video-text"]
TERMS: Final[tuple[Term, ...]] = get_args(Term)
Weight = Annotated[float, Field(ge=0, le=1000)]


class MaskSection(Section):
    """Which other samples of a batch are no negatives, though they belong to another row."""

    same_track: bool
    """Leave out pairs of one track: another clip of it, or the same clip twice."""
    same_artist: bool
    """Leave out pairs of one artist."""
    near_duplicates: float | None = Field(gt=0, le=1)
    """Leave out pairs whose mean music features have at least this cosine; null is off."""


class Terms(Section):
    """What every objective has."""

    terms: dict[Term, Weight]
    """Weight of each pair of embeddings in the sum; 0 leaves it out. The paper has fused-music alone."""
    initial_temperature: float = Field(gt=0, le=1)
    """Temperature (divides the cosine) at the first step."""
    lowest_temperature: float = Field(gt=0, le=1)
    """The learnt temperature never falls below this."""
    mask: MaskSection
    """What is left out as a false negative."""
    stream_rows: int | None = Field(ge=1)
    """Rows of the (batch, batch) score matrix held at once; saves memory at large batches. null holds it whole."""

    @model_validator(mode="after")
    def _all_terms_have_a_weight(self) -> Self:
        missing = [term for term in TERMS if term not in self.terms]
        if missing:
            raise ValueError(f"terms lacks {', '.join(missing)}; give it a weight, 0 to leave it out")
        if not any(self.terms.values()):
            raise ValueError("terms has no weight above 0; give at least one term a weight")
        return self

    @model_validator(mode="after")
    def _start_in_range(self) -> Self:
        if self.initial_temperature < self.lowest_temperature:
            raise ValueError(
                f"loss.initial_temperature {self.initial_temperature} is below "
                f"loss.lowest_temperature {self.lowest_temperature}; raise the first or lower the second"
            )
        return self


class InfoNCE(Terms):
    """Symmetric InfoNCE: each sample picks its partner among the batch, both ways (ViML, section 3.2)."""

    kind: Literal["infonce"]
    """Symmetric InfoNCE."""
    hard_negatives: float = Field(ge=0, le=10)
    """Weight of a negative grows with exp(this x its score), mean 1 (Robinson et al. 2021); 0 is plain InfoNCE."""


class Sigmoid(Terms):
    """Sigmoid loss: every pair by itself is a match or none (Zhai et al. 2023, SigLIP)."""

    kind: Literal["sigmoid"]
    """Sigmoid loss over all pairs."""
    initial_bias: float = Field(ge=-100, le=100)
    """Added to the scaled cosine at the first step; about -log(batch), since nearly all pairs are no match."""


LossSection = Annotated[InfoNCE | Sigmoid, Field(discriminator="kind")]
