"""Parameters of `ingest`."""

from typing import Self

from pydantic import Field, model_validator

from components.settings import Section


class Decoding(Section):
    """How files are decoded; part of the cache's key where it can change a finding."""

    workers: int = Field(gt=0, le=64)
    """Worker processes; one core each."""
    file_limit_s: float = Field(gt=0)
    """Wall-clock seconds one file may take before its worker is stopped."""
    memory_limit_mib: int = Field(ge=1024)
    """Address space of one worker, MiB; guards against pictures of absurd size."""


class Limits(Section):
    """What a usable file is."""

    clip_s: float = Field(gt=0)
    """Longest part of a file that is used, seconds; taken from its middle."""
    min_s: float = Field(gt=0)
    """Shortest usable length of picture with sound, seconds."""
    max_s: float = Field(gt=0)
    """Longest accepted file, seconds."""
    missing_s: float = Field(ge=0)
    """A file that ends earlier than its header says by more than this (seconds) ..."""
    missing_share: float = Field(ge=0, lt=1)
    """... and by more than this share of its length is truncated."""
    errors_share: float = Field(ge=0, lt=1)
    """A file is corrupt when more than this share of the decoded packets fails."""
    silence_dbfs: float = Field(lt=0)
    """A clip whose loudest sample stays under this (dB of full scale) is silent."""
    black_luma: float = Field(ge=0, le=255)
    """A clip is black when its mean luma (0-255) is under this ..."""
    black_deviation: float = Field(ge=0, le=255)
    """... and the standard deviation of its luma is under this."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_s > self.clip_s:
            raise ValueError(f"min_s ({self.min_s}) must not exceed clip_s ({self.clip_s}): no clip could be accepted")
        if self.clip_s > self.max_s:
            raise ValueError(f"clip_s ({self.clip_s}) must not exceed max_s ({self.max_s})")
        return self


class Copies(Section):
    """When two files are copies of each other; both scales run from 0 (unrelated) to 1 (equal)."""

    sound: float = Field(gt=0, le=1)
    """Least agreement of two sound fingerprints that counts as the same recording."""
    picture: float = Field(gt=0, le=1)
    """Least correlation of two picture fingerprints that counts as the same picture."""


class Splits(Section):
    """Shares of the groups (clips that share a video, track or artist) per split, and least counts."""

    seed: int = Field(ge=0)
    """Another seed gives another split."""
    train: float = Field(gt=0, lt=1)
    """Share of groups to train on."""
    val: float = Field(gt=0, lt=1)
    """Share of groups for early stopping."""
    test: float = Field(gt=0, lt=1)
    """Share of groups to evaluate on."""
    min_train: int = Field(ge=1)
    """Fewest clips to train on."""
    min_val: int = Field(ge=1)
    """Fewest clips for early stopping."""
    min_test: int = Field(ge=1)
    """Fewest clips to evaluate on."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test must add up to 1, they add up to {total:g}")
        return self


class Ingest(Section):
    """Section `ingest` of ``params.yaml``."""

    decoding: Decoding
    """How files are decoded."""
    limits: Limits
    """What a usable file is."""
    copies: Copies
    """When two files are copies of each other."""
    splits: Splits
    """How clips are split into train, val and test."""
    annotation_chars: int = Field(gt=0)
    """Longest accepted annotation text, characters."""
