"""Section ``encoder`` of params.yaml: the shape of the trimodal model and its objective."""

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, model_validator

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
