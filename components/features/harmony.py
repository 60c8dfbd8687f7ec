"""What is played: pitch classes, key, mode and register.

T spectra of the whole clip, S segments, 12 pitch classes from C.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.features.timbre import Array, pooled

if TYPE_CHECKING:
    import torch

HARMONY_DIMS = 109

_LOW_MIDI, _OCTAVES = 33, 6  # A1, 55 Hz
_BASS = 24  # lowest semitones that count as bass
# How well each pitch class fits a major and a minor key (Krumhansl and Kessler, 1982).
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])


def harmony(power: torch.Tensor, masks: NDArray[np.bool_], sample_rate_hz: int) -> Array:
    """Return (S, 109): chroma, bass chroma, register, tonal centre, key and mode, chord changes."""
    import torch

    filters = torch.from_numpy(semitone_filters(sample_rate_hz, 2 * (power.shape[0] - 1)))
    tones = (filters @ power.sqrt()).numpy()  # (72, T)
    tones = np.log1p(1000 * tones / (tones.max() + 1e-6)) / np.log1p(1000)
    # A tone stands out of its neighbours; noise and drums do not.
    peaks = np.maximum(0, tones - 0.5 * (np.roll(tones, 1, axis=0) + np.roll(tones, -1, axis=0)))
    chroma = peaks.reshape(_OCTAVES, 12, -1).sum(axis=0)
    chroma = np.roll(chroma, _LOW_MIDI % 12, axis=0)
    bass = np.roll(peaks[:_BASS].reshape(-1, 12, peaks.shape[1]).sum(axis=0), _LOW_MIDI % 12, axis=0)
    mean, deviation = pooled(_to_unit(chroma), masks)
    low, _ = pooled(_to_unit(bass), masks)
    octaves, _ = pooled(tones.reshape(_OCTAVES, 12, -1).mean(axis=1), masks)
    change = np.abs(np.diff(_to_unit(chroma), axis=1, prepend=_to_unit(chroma)[:, :1])).sum(axis=0, keepdims=True)
    flux = np.hstack(pooled(change, masks))
    spread = -(mean * np.log(mean / (mean.sum(axis=1, keepdims=True) + 1e-9) + 1e-9)).sum(axis=1, keepdims=True)
    lags = np.stack([(mean * np.roll(mean, lag, axis=1)).sum(axis=1) for lag in range(1, 7)], axis=1)
    key = _key(chroma.mean(axis=1), bass.mean(axis=1))
    whole = np.broadcast_to(key, (len(masks), len(key)))
    return np.hstack(
        [2 * mean, 2 * deviation, 2 * low, octaves, mean @ _tonnetz().T, lags, flux, spread, whole]
    ).astype(np.float32)


@lru_cache(maxsize=4)
def semitone_filters(sample_rate_hz: int, window: int) -> Array:
    """Return (72, window // 2 + 1): filters half a semitone wide around each tone from A1 up."""
    hz = np.linspace(0, sample_rate_hz / 2, window // 2 + 1)
    midi = 69 + 12 * np.log2(np.maximum(hz, 1.0) / 440)
    tones = _LOW_MIDI + np.arange(12 * _OCTAVES)
    # Low tones lie closer together than the spectrum's bins: widen them to one bin at least.
    bin_width = 12 * np.log2(1 + sample_rate_hz / window / (440 * 2 ** ((tones - 69) / 12)))
    width = np.maximum(0.35, 0.5 * bin_width)
    filters = np.exp(-0.5 * ((midi[None, :] - tones[:, None]) / width[:, None]) ** 2)
    return np.asarray(filters / np.maximum(filters.sum(axis=1, keepdims=True), 1e-9), np.float32)


def _to_unit(chroma: Array) -> Array:
    return np.asarray(chroma / (np.linalg.norm(chroma, axis=0, keepdims=True) + 1e-3), np.float32)


@lru_cache(maxsize=1)
def _tonnetz() -> NDArray[np.float64]:
    """Return (6, 12): the circles of fifths, minor and major thirds (Harte, Sandler, Gasser, 2006)."""
    steps = np.arange(12)
    angles = [steps * 7 * np.pi / 6, steps * 3 * np.pi / 2, steps * 2 * np.pi / 3]
    return np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)])


def _key(chroma: NDArray[np.floating], bass: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (52,): fit to the 24 keys, the chroma and bass seen from the best tonic, and mode."""
    heard = chroma + bass  # the bass counts twice: it plays the root more often than not
    heard = heard / (heard.sum() + 1e-9)
    fits = np.array(
        [_correlation(np.roll(heard, -tonic), profile) for profile in (_MAJOR, _MINOR) for tonic in range(12)]
    )
    tonic = int(fits.reshape(2, 12).max(axis=0).argmax())
    mode = [fits[:12].max() - fits[12:].max(), fits[tonic] - fits[12 + tonic], fits.max(), heard.max()]
    seen = np.roll(chroma, -tonic) / (np.linalg.norm(chroma) + 1e-9)
    below = np.roll(bass, -tonic) / (np.linalg.norm(bass) + 1e-9)
    return np.concatenate([fits, 2 * seen, 2 * below, mode])


def _correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))
