"""Section ``encoder`` of params.yaml: the shape of the trimodal model and its objective."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.settings import Section


class TransformerFusion(Section):
    """A small Transformer over [query token, video, text]; the query token's output is y_vt."""

    kind: Literal["transformer"]
    """A Transformer over the tokens of video and text."""
    layers: int = Field(ge=1, le=12)
    """Number of fusion blocks."""


class MeanFusion(Section):
    """The average of the modalities present: the plain baseline of the fusion module."""

    kind: Literal["mean"]
    """The average of what is there."""


Fusion = Annotated[TransformerFusion | MeanFusion, Field(discriminator="kind")]


class InfoNCE(Section):
    """Symmetric InfoNCE with in-batch negatives and a learnt temperature."""

    kind: Literal["infonce"]
    """Symmetric InfoNCE."""
    initial_temperature: float = Field(gt=0, le=1)
    """Temperature (divides the cosine) at the first step."""
    lowest_temperature: float = Field(gt=0, le=1)
    """The learnt temperature never falls below this."""

    @model_validator(mode="after")
    def _start_in_range(self) -> Self:
        if self.initial_temperature < self.lowest_temperature:
            raise ValueError(
                f"loss.initial_temperature {self.initial_temperature} is below "
                f"loss.lowest_temperature {self.lowest_temperature}; raise the first or lower the second"
            )
        return self


class EncoderSection(Section):
    """Architecture of the trimodal model; everything a saved model needs to be rebuilt."""

    width: int = Field(ge=8, le=4096)
    """Hidden size of every Transformer."""
    layers: int = Field(ge=0, le=48)
    """Transformer blocks per modality; 0 pools the projected segments directly."""
    heads: int = Field(ge=1, le=64)
    """Attention heads; must divide width."""
    feedforward: int = Field(ge=8, le=16384)
    """Hidden size of the feed-forward part of a block."""
    embedding_dims: int = Field(ge=2, le=4096)
    """Dimensions of the shared space in which the cosine is taken."""
    dropout: float = Field(ge=0, lt=1)
    """Probability of dropping a hidden unit while training."""
    input_dropout: float = Field(ge=0, lt=1)
    """Probability of dropping a standardised input feature while training."""
    input_noise: float = Field(ge=0, le=5)
    """Standard deviation of Gaussian noise on standardised inputs while training."""
    input_limit: float = Field(gt=0, le=1000)
    """Standardised inputs are clipped to plus and minus this many standard deviations."""
    fusion: Fusion
    """How video and text become one query embedding."""
    loss: InfoNCE
    """The training objective; holds the learnt temperature."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        return self
