"""Parameters of the ``tagging`` section."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from components.settings import Section

Probability = Annotated[float, Field(ge=0, lt=1)]


class Thresholds(Section):
    """From which probability on a tag is kept; the paper's is 0.30 (ViML, CVPR 2023, section 3.1)."""

    genres: Probability
    """Least probability of a genre."""
    moods: Probability
    """Least probability of a mood."""
    instruments: Probability
    """Least probability of an instrument or of vocals."""


class JudgedParams(Section):
    """What all taggers share: what is kept, and how the seed library judges them."""

    thresholds: Thresholds
    """Least probability of a tag that is kept, per group."""
    min_examples: Annotated[int, Field(ge=2)]
    """A tag that fewer tracks of the seed library carry, or lack, is not judged (probe: not learnt), in tracks."""
    folds: Annotated[int, Field(ge=2, le=20)]
    """Parts of the seed library for cross-validation."""
    seed: Annotated[int, Field(ge=0)]
    """Decides which track is in which fold."""


class ProbeParams(JudgedParams):
    """A calibrated linear probe over music features, fitted on the seed library."""

    kind: Literal["probe"]
    """Which tagger: the linear probe."""
    l2: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    """Penalties on squared weights to choose from; the one that predicts left-out tracks best is used."""


class AudioParams(JudgedParams):
    """A pre-trained tagger that listens to the sound, window by window."""

    calibrate: bool
    """Whether the seed library's labels correct the probabilities (Platt, one line per group)."""
    hop_s: Annotated[float, Field(gt=0)]
    """Step between windows, in seconds; the last window ends where the clip ends."""
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    """Windows listened to at once, of any clips; halved by itself where memory runs out."""
    device: Literal["auto", "cpu", "cuda"]
    """Where the model runs; auto takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1, le=256)]
    """Threads of the model on a CPU."""
    workers: Annotated[int, Field(ge=1, le=256)]
    """Threads that decode sound."""


class CnnParams(AudioParams):
    """A published 16 kHz CNN tagger (Won et al., 2020) with weights of your own."""

    kind: Literal["cnn"]
    """Which tagger: a convolutional net."""
    architecture: Literal["fcn", "crnn", "musicnn"]
    """Which net the weights are of; fcn and crnn hear 29.1 s at once, musicnn 3 s."""
    weights: Annotated[str, Field(min_length=1)]
    """File of the weights: a plain state dict (.pth), or .safetensors."""
    labels: Annotated[str, Field(min_length=1)]
    """File of the labels in the order of the outputs: one per line, or a .npy array of text."""


class HubParams(AudioParams):
    """A model in the format of the transformers library."""

    model: Annotated[str, Field(min_length=1)]
    """Folder of a model, or its name on the hub; weights must be safetensors, code in it is not run."""
    revision: Annotated[str, Field(min_length=1)]
    """Revision on the hub, a commit; a folder's files are hashed instead."""


class HfParams(HubParams):
    """An audio classifier, such as the Audio Spectrogram Transformer."""

    kind: Literal["hf"]
    """Which tagger: an audio classification model."""
    window_s: Annotated[float, Field(gt=0, le=600)]
    """Length of sound heard at once, in seconds; 10.24 for the Audio Spectrogram Transformer."""
    activation: Literal["sigmoid", "softmax", "config"]
    """From logits to probabilities: each label by itself, one of all, or what the model's own config says."""


class Prompts(Section):
    """Sentences that a label is put into, at ``{}``; CLAP was trained on sentences, not on words."""

    genres: str
    """For genres, e.g. This is {} music."""
    moods: str
    """For moods."""
    instruments: str
    """For instruments and vocals."""
    other: str
    """For labels that the taxonomy does not know."""
    neutral: str
    """What is true of any clip; has no ``{}``."""

    @field_validator("genres", "moods", "instruments", "other")
    @classmethod
    def _has_place(cls, value: str) -> str:
        if value.count("{}") != 1:
            raise ValueError("must have one {} where the label goes")
        return value


class ClapParams(HubParams):
    """Zero-shot tagging: how well a sentence with the label fits the sound (CLAP; Wu et al., 2023)."""

    kind: Literal["clap"]
    """Which tagger: likeness of text and sound."""
    labels: str | None
    """File of labels, one per line, or a .npy array of text; null takes the names of the taxonomy."""
    prompts: Prompts
    """Sentences around the labels."""
    probability: Literal["contrast", "softmax"]
    """contrast weighs each label's sentence against the neutral one; softmax shares 1 among a group's labels."""
    temperature: Annotated[float, Field(gt=0)]
    """Divides likeness times the model's own scale; above 1 the probabilities are less extreme."""


TaggingParams = Annotated[ProbeParams | CnnParams | HfParams | ClapParams, Field(discriminator="kind")]
