"""Parameters of the ``features`` section."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.settings import Section


class MusicParams(Section):
    """The embedded music extractor."""

    sample_rate_hz: Annotated[int, Field(ge=8000, le=48000)]
    """Rate the sound is resampled to, in Hz."""
    window: Annotated[int, Field(ge=256, le=8192)]
    """Length of a spectrum's window, in samples."""
    hop: Annotated[int, Field(ge=64, le=4096)]
    """Step between spectra, in samples."""
    mel_bands: Annotated[int, Field(ge=16, le=256)]
    """Number of mel bands."""
    tempo_lags: Annotated[int, Field(ge=8, le=128)]
    """Points of the tempo grid, from 45 to 240 beats per minute."""

    @model_validator(mode="after")
    def _hop_fits(self) -> Self:
        if self.hop > self.window:
            raise ValueError(f"music.hop: must not exceed music.window ({self.window}), or sound is skipped")
        return self


class VideoParams(Section):
    """The embedded video extractor."""

    width: Annotated[int, Field(ge=16, le=512)]
    """Width the pictures are scaled to, in pixels."""
    height: Annotated[int, Field(ge=16, le=512)]
    """Height the pictures are scaled to, in pixels."""
    stills_per_s: Annotated[float, Field(gt=0, le=10)]
    """Pictures per second that colour, edges and shapes are read from."""
    motion_fps: Annotated[float, Field(ge=2, le=30)]
    """Pictures per second that motion and its rhythm are read from."""

    @model_validator(mode="after")
    def _motion_is_finer(self) -> Self:
        if self.stills_per_s > self.motion_fps:
            raise ValueError(f"video.stills_per_s: must not exceed video.motion_fps ({self.motion_fps})")
        return self


class TextParams(Section):
    """The embedded text extractor."""

    dims: Annotated[int, Field(ge=64, le=65536)]
    """Number of hash buckets; half for words, half for characters."""
    word_ngram: Annotated[int, Field(ge=1, le=4)]
    """Longest run of words that is counted, in words."""
    char_ngram_min: Annotated[int, Field(ge=1, le=10)]
    """Shortest run of characters that is counted."""
    char_ngram_max: Annotated[int, Field(ge=1, le=10)]
    """Longest run of characters that is counted."""

    @model_validator(mode="after")
    def _ngrams_are_a_range(self) -> Self:
        if self.char_ngram_min > self.char_ngram_max:
            raise ValueError(f"text.char_ngram_min: must not exceed text.char_ngram_max ({self.char_ngram_max})")
        return self


class StoredParams(Section):
    """What every extractor is told of segments and stores."""

    segment_s: Annotated[float, Field(ge=0.5, le=60)]
    """Length of a segment, in seconds."""
    max_segments: Annotated[int, Field(ge=1, le=512)]
    """Most segments kept of a clip; a longer clip is sampled evenly."""
    shard_rows: Annotated[int, Field(ge=1, le=1_000_000)]
    """Most clips in memory at once while a store is written; the store itself does not depend on it."""


class EmbeddedParams(StoredParams):
    """Features computed by the formulas in this folder; no weights, nothing to download."""

    kind: Literal["embedded"]
    """Which extractors: the embedded ones."""
    workers: Annotated[int, Field(ge=1, le=256)]
    """Processes that decode and compute."""
    music: MusicParams
    """The music extractor."""
    video: VideoParams
    """The video extractor."""
    text: TextParams
    """The text extractor."""


class ModelParams(Section):
    """Which pre-trained model."""

    model: Annotated[str, Field(min_length=1)]
    """Folder of a model, or its name on the hub; weights must be safetensors, code in it is not run."""
    revision: Annotated[str, Field(min_length=1)]
    """Revision on the hub, best a commit; a folder's files are hashed instead."""


class HfVideoParams(ModelParams):
    """A model of pictures (CLIP, SigLIP, SigLIP 2) or of moving pictures (PE-AV)."""

    frames_per_s: Annotated[float, Field(gt=0, le=30)]
    """Frames taken of each second of a segment; a segment has one at least."""


class HfMusicParams(ModelParams):
    """A model of sound: CLAP, AST, PE-AV, or one like wav2vec 2.0."""

    pooling: Literal["model", "mean", "layers"]
    """model: the embedding that the model itself gives, or the mean over time where it gives none; mean: of the
    last layer's states over time; layers: of all layers' states, over time."""


class HfTextParams(ModelParams):
    """A model of text: CLIP, SigLIP, CLAP, PE-AV, or a sentence encoder such as MiniLM."""

    output: Literal["pooled", "tokens"]
    """pooled: one embedding of the text; tokens: one of each token, from the last layer."""
    max_tokens: Annotated[int, Field(ge=4, le=8192)]
    """Most tokens read of a text, with those that mark its start and end; the rest is cut off."""


class HfParams(StoredParams):
    """Features from pre-trained models in the format of the transformers library."""

    kind: Literal["hf"]
    """Which extractors: pre-trained models."""
    workers: Annotated[int, Field(ge=1, le=256)]
    """Processes that decode, while this one runs the model."""
    device: Literal["auto", "cpu", "cuda"]
    """Where the models run; auto takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    """Numbers the models compute in; auto is bfloat16 on a GPU that has it, else float32."""
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    """Frames, segments of sound or texts embedded at once, of any clips."""
    threads: Annotated[int, Field(ge=1, le=256)]
    """Threads of the models on a CPU."""
    music: HfMusicParams
    """The music encoder."""
    video: HfVideoParams
    """The video encoder."""
    text: HfTextParams
    """The text encoder."""


FeaturesParams = Annotated[EmbeddedParams | HfParams, Field(discriminator="kind")]
