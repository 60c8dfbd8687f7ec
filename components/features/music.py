"""Music features: timbre, harmony and rhythm of each segment, from the sound alone."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components import media
from components.features.harmony import HARMONY_DIMS, harmony
from components.features.params import MusicParams
from components.features.rhythm import ONSET_DIMS, ONSET_GROUPS, onset_statistics, onsets, tempo_profile
from components.features.segments import segment_masks, segment_starts
from components.features.source import Source
from components.features.spectrum import empty_power, log_mel, one_thread, power_spectrum
from components.features.timbre import MODULATION_DIMS, SHAPE_DIMS, mel_dims, mel_statistics, modulation, shape

_HARMONY_WINDOW_S = 0.256  # long enough to part semitones from about 65 Hz up


def music_dims(params: MusicParams) -> int:
    """Return how many numbers describe a segment (D), without computing any."""
    rhythm = ONSET_DIMS + ONSET_GROUPS * params.tempo_lags
    return mel_dims(params.mel_bands) + MODULATION_DIMS + SHAPE_DIMS + HARMONY_DIMS + rhythm


def music_features(source: Source, params: MusicParams, segment_s: float, max_segments: int) -> NDArray[np.float32]:
    """Return (S, D) features of a clip's sound.

    Raises:
        MediaError: the sound cannot be decoded.
    """
    samples = media.mono(Path(source.uri), params.sample_rate_hz, source.start_s, source.end_s)
    starts = segment_starts(source.end_s - source.start_s, segment_s, max_segments)
    with one_thread():
        return describe_sound(samples, starts, segment_s, params)


def describe_sound(
    samples: NDArray[np.float32], starts_s: list[float], segment_s: float, params: MusicParams
) -> NDArray[np.float32]:
    """Return (S, D) features of mono samples in [-1, 1] at ``params.sample_rate_hz``."""
    rate = params.sample_rate_hz
    # The last segment is whole even where the sound ends a few samples early.
    samples = np.pad(samples, (0, max(0, round((starts_s[-1] + segment_s) * rate) - len(samples))))
    power = empty_power(samples, params.window, params.hop)
    mel_db = log_mel(samples, rate, params.window, params.hop, params.mel_bands, power)
    mel_db, power = np.ascontiguousarray(mel_db), power.T  # statistics follow a band over time
    masks = segment_masks(np.arange(power.shape[1]) * params.hop / rate, starts_s, segment_s)
    frame_hz = rate / params.hop
    strength = onsets(mel_db)
    tempo = tempo_profile(strength, frame_hz, params.tempo_lags).ravel()

    window = 1 << round(np.log2(_HARMONY_WINDOW_S * rate))
    slow = power_spectrum(samples, window, window // 4)
    slow_masks = segment_masks(np.arange(slow.shape[1]) * (window // 4) / rate, starts_s, segment_s)
    return np.hstack(
        [
            mel_statistics(mel_db, masks),
            modulation(mel_db, masks, frame_hz),
            shape(power, samples, masks, rate, params.hop),
            harmony(slow, slow_masks, rate),
            onset_statistics(strength, masks, frame_hz),
            np.broadcast_to(tempo, (len(starts_s), len(tempo))),
        ]
    ).astype(np.float32)
