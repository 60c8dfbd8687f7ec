"""What a sound is like: its spectrum's level, spread, shape and how its bands swell and fade.

F frequencies or bands, T spectra of the whole clip, S segments.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SHAPE_DIMS = 30

_GROUPS = 8  # of mel bands, for envelopes
_FLATNESS_BANDS = 4
_MODULATION_HZ = (0.5, 2.0, 4.0, 8.0, 16.0, 31.0)
MODULATION_DIMS = _GROUPS * (len(_MODULATION_HZ) - 1)


def pooled(values: Array, masks: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the mean and the standard deviation (S, F) of values (F, T) in each segment."""
    means, deviations = [], []
    for mask in masks:
        inside = values[:, mask]
        means.append(inside.mean(axis=1))
        deviations.append(inside.std(axis=1))
    return np.stack(means), np.stack(deviations)


def mel_dims(bands: int) -> int:
    """Return how many numbers ``mel_statistics`` gives per segment."""
    return 3 * bands + 2 * _GROUPS


def mel_statistics(mel_db: Array, masks: NDArray[np.bool_]) -> Array:
    """Return (S, 3 F + 16): level and spread of each band, its change, and attack against decay."""
    change = np.diff(mel_db, axis=1, prepend=mel_db[:, :1])
    mean, deviation = pooled(mel_db, masks)
    restless, _ = pooled(np.abs(change), masks)
    grouped = group_bands(change)
    rise, _ = pooled(np.maximum(grouped, 0), masks)
    fall, _ = pooled(np.maximum(-grouped, 0), masks)
    return np.hstack([mean / 20, deviation / 10, restless / 5, rise / 5, fall / 5])


def modulation(mel_db: Array, masks: NDArray[np.bool_], frame_hz: float) -> Array:
    """Return (S, 40): how strongly groups of bands swell and fade at slow to fast rates.

    Tremolo, vibrato, plucks and sustained tones differ here when their mean spectra are alike.
    """
    rows = []
    for mask in masks:
        envelopes = group_bands(mel_db[:, mask])
        envelopes = (envelopes - envelopes.mean(axis=1, keepdims=True)) * np.hanning(envelopes.shape[1])
        power = np.abs(np.fft.rfft(envelopes, axis=1)) ** 2 / max(1, envelopes.shape[1])
        rates = np.fft.rfftfreq(envelopes.shape[1], 1 / frame_hz)
        bands = [(rates >= low) & (rates < high) for low, high in pairwise(_MODULATION_HZ)]
        rows.append(np.concatenate([np.log1p(power[:, band].sum(axis=1)) for band in bands]))
    return (np.stack(rows) / 3).astype(np.float32)


def shape(power: Array, samples: Array, masks: NDArray[np.bool_], sample_rate_hz: int, hop: int) -> Array:
    """Return (S, 30): means and spreads of the spectrum's centre, width, rolloff, flatness, loudness."""
    bins = power.shape[0]
    hz = np.linspace(0, sample_rate_hz / 2, bins, dtype=np.float32)
    magnitude = np.sqrt(power) + 1e-9
    total = magnitude.sum(axis=0)
    centre = (hz[:, None] * magnitude).sum(axis=0) / total
    width = np.sqrt(((hz[:, None] - centre) ** 2 * magnitude).sum(axis=0) / total)
    share = np.cumsum(power + 1e-12, axis=0)
    share /= share[-1]
    rolloffs = [(share < level).sum(axis=0) / bins for level in (0.5, 0.85, 0.95)]
    edges = np.unique(np.geomspace(4, bins, _FLATNESS_BANDS + 1).astype(int))
    flatness, crest = [], []
    for low, high in pairwise(edges):
        band = power[low:high] + 1e-10
        mean = band.mean(axis=0)
        flatness.append(np.log10(mean) - np.log10(band).mean(axis=0))
        crest.append(np.log10(band.max(axis=0) / mean))
    frames = _framed(samples, hop, power.shape[1])
    loudness = 20 * np.log10(np.sqrt((frames**2).mean(axis=1)) + 1e-5)
    crossings = (np.diff(np.signbit(frames), axis=1) != 0).mean(axis=1)
    tracks = [centre / 2000, width / 2000, *rolloffs, *flatness, *crest, loudness / 20, crossings * 4]
    return np.hstack(pooled(np.stack(tracks).astype(np.float32), masks))


def group_bands(mel: Array) -> Array:
    """Return (8, T): means of neighbouring mel bands."""
    return np.stack([part.mean(axis=0) for part in np.array_split(mel, _GROUPS)])


def _framed(samples: Array, hop: int, count: int) -> Array:
    padded = np.zeros(count * hop, np.float32)
    padded[: min(len(samples), len(padded))] = samples[: len(padded)]
    return padded.reshape(count, hop)
