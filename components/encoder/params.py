"""Section ``encoder`` of params.yaml: the shape of the trimodal model and its objective."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.encoder.loss_params import LossSection
from components.modalities import MODALITIES, Modality
from components.settings import Section


class ConcatTransformerFusion(Section):
    """Blocks over [query token, video segments, text tokens]; the query token's output is y_vt (ViML 3.2)."""

    kind: Literal["concat-transformer"]
    """A Transformer over the sequences of video and text, one behind the other."""
    layers: int = Field(ge=1, le=12)
    """Number of fusion blocks."""


class PooledTransformerFusion(Section):
    """Blocks over [query token, one vector of video, one of text]; the query token's output is y_vt."""

    kind: Literal["pooled-transformer"]
    """A Transformer over the pooled vectors of video and text."""
    layers: int = Field(ge=1, le=12)
    """Number of fusion blocks."""


class CrossAttentionFusion(Section):
    """Video looks at text and text at video; what comes of both is pooled and averaged."""

    kind: Literal["cross-attention"]
    """Each modality's sequence attends to the other's."""
    layers: int = Field(ge=1, le=12)
    """Number of rounds."""


class GatedFusion(Section):
    """A sum of the modalities, each scaled by a gate that sees it: a vague sentence can count for less."""

    kind: Literal["gated"]
    """A gated sum."""


class MeanFusion(Section):
    """The average of the modalities present: the plain baseline of the fusion module."""

    kind: Literal["mean"]
    """The average of what is there."""


Fusion = Annotated[
    ConcatTransformerFusion | PooledTransformerFusion | CrossAttentionFusion | GatedFusion | MeanFusion,
    Field(discriminator="kind"),
]


class SinusoidalPositions(Section):
    """Sines and cosines (Vaswani et al., 2017): any length works, none has to be seen in training."""

    kind: Literal["sinusoidal"]
    """Sines and cosines."""


class LearnedPositions(Section):
    """One learnt vector per place."""

    kind: Literal["learned"]
    """A table that is learnt."""
    longest: int = Field(ge=1, le=100_000)
    """Most segments of a sequence; a longer one is refused."""


class NoPositions(Section):
    """None: a clip is a set of segments."""

    kind: Literal["none"]
    """No positions."""


Positions = Annotated[SinusoidalPositions | LearnedPositions | NoPositions, Field(discriminator="kind")]


class NoLinearPaths(Section):
    """The towers alone, as in the paper."""

    kind: Literal["none"]
    """No linear paths."""


class CCAPaths(Section):
    """Canonical directions of mean features, fitted in closed form on the train clips (Hotelling, 1936)."""

    kind: Literal["cca"]
    """Directions of canonical correlation, their ridges chosen on val clips."""
    directions: int = Field(ge=1, le=1024)
    """Most directions of each query modality; the embedding has twice as many dimensions more."""
    share: float = Field(gt=0, lt=1)
    """Weight of the linear paths' cosine in the score; the towers' has the rest."""


LinearSection = Annotated[NoLinearPaths | CCAPaths, Field(discriminator="kind")]


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
    """Dimensions of the towers' shared space, in which the objective's cosine is taken."""
    dropout: float = Field(ge=0, lt=1)
    """Probability of dropping a hidden unit while training."""
    input_dropout: float = Field(ge=0, lt=1)
    """Probability of dropping a standardised input feature while training."""
    input_noise: dict[Modality, Annotated[float, Field(ge=0, le=5)]]
    """Standard deviation of Gaussian noise on the standardised inputs of each modality while training; 0 is none."""
    input_limit: float = Field(gt=0, le=1000)
    """Standardised inputs are clipped to plus and minus this many standard deviations."""
    positions: Positions
    """How a tower knows the order of segments."""
    pooling: Literal["mean", "cls", "attention"]
    """How a sequence becomes one vector: its average, a learnt token that attends to it, or a learnt weighting."""
    fusion: Fusion
    """How video and text become one query embedding."""
    linear: LinearSection
    """What stands beside the towers' embeddings."""
    loss: LossSection
    """The training objective; holds the learnt temperature."""

    @model_validator(mode="after")
    def _every_modality_has_its_noise(self) -> Self:
        if missing := [m for m in MODALITIES if m not in self.input_noise]:
            raise ValueError(f"input_noise lacks {', '.join(missing)}; 0 is none")
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        return self
