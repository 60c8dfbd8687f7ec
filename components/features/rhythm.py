"""When things happen: onsets, their strength and density, and the periods they return at."""

import numpy as np
from numpy.typing import NDArray

from components.features.timbre import Array, pooled

ONSET_DIMS, ONSET_GROUPS = 16, 4

_SLOWEST_BPM, _FASTEST_BPM = 45.0, 240.0
_POINTS_PER_CELL = 8  # of the tempo grid, where the correlation is looked up


def onsets(mel_db: Array) -> Array:
    """Return (4, T): rise of the spectrum in low, middle, high bands and in all of them."""
    rise = np.maximum(0, np.diff(mel_db, axis=1, prepend=mel_db[:, :1]))
    low, middle, high = (part.mean(axis=0) for part in np.array_split(rise, 3))
    return np.stack([low, middle, high, rise.mean(axis=0)])


def onset_statistics(strength: Array, masks: NDArray[np.bool_], frame_hz: float) -> Array:
    """Return (S, 16): mean, spread, peak and number per second of onsets in each band group."""
    mean, deviation = pooled(strength, masks)
    peak = np.stack([strength[:, mask].max(axis=1) for mask in masks])
    height = strength.mean(axis=1, keepdims=True) + strength.std(axis=1, keepdims=True)
    before = np.concatenate([strength[:, :1], strength[:, :-1]], axis=1)
    after = np.concatenate([strength[:, 1:], strength[:, -1:]], axis=1)
    is_onset = (strength > height) & (strength >= before) & (strength > after)
    density = np.stack([is_onset[:, mask].sum(axis=1) / max(1, mask.sum()) * frame_hz for mask in masks])
    return np.hstack([mean / 2, deviation / 4, peak / 20, density / 4]).astype(np.float32)


def tempo_profile(signals: Array, frame_hz: float, lags: int) -> Array:
    """Return (C, lags): autocorrelation of signals (C, T) at beat periods of a log tempo grid.

    The grid goes from slow to fast. A signal without change gives zeros.
    """
    count = signals.shape[1]
    centred = signals - signals.mean(axis=1, keepdims=True)
    size = 1 << (2 * count - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size, axis=1)) ** 2
    correlation = np.fft.irfft(power, size, axis=1)[:, :count]
    # Longer lags overlap less: without this a slow tempo looks weaker than a fast one.
    correlation /= np.maximum(1, count - np.arange(count)) / count
    energy = correlation[:, :1]
    correlation = np.where(energy > 1e-9, correlation / np.maximum(energy, 1e-9), 0.0)
    # The highest point of each cell: a sharp peak between two grid points must not be missed.
    octaves = np.log2(_FASTEST_BPM / _SLOWEST_BPM) / (lags - 1)
    inside = 2 ** (octaves * (np.arange(_POINTS_PER_CELL) / _POINTS_PER_CELL - 0.5))
    wanted = 60.0 / (tempo_grid(lags)[:, None] * inside) * frame_hz  # (lags, points)
    rows = [np.interp(wanted, np.arange(count), row, right=0.0).max(axis=1) for row in correlation]
    return np.stack(rows).astype(np.float32)


def tempo_grid(lags: int) -> NDArray[np.float64]:
    """Return the grid's tempi in beats per minute, evenly spaced in octaves."""
    return np.geomspace(_SLOWEST_BPM, _FASTEST_BPM, lags)
