"""Spectra of sound: short-time power spectrum, mel bands and decibels, as librosa defines them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # seconds to load, and no process but those that compute needs it
    import torch

_SAMPLES = 1 << 18  # of windowed frames at a time
FLOOR_DB = -100.0  # 10 log10 of the smallest power told apart from silence


def power_spectrum(samples: NDArray[np.floating], window: int, hop: int) -> torch.Tensor:
    """Return (window // 2 + 1, T) power of ``samples``, Hann windows centred on multiples of ``hop``.

    Computed in the precision of ``samples``.
    """
    import torch

    x = torch.from_numpy(np.ascontiguousarray(samples))
    hann = torch.hann_window(window, periodic=True, dtype=x.dtype)
    frames = torch.nn.functional.pad(x, (window // 2, window // 2)).unfold(0, window, hop)  # (T, window), a view
    power = x.new_empty(len(frames), window // 2 + 1)
    # A few frames at a time, in the same memory: what is not written to memory is not read from it either.
    size = max(1, _SAMPLES // window)
    windowed = x.new_empty(size, window)
    spectrum = x.new_empty(size, window // 2 + 1, dtype=hann.dtype.to_complex())
    for first in range(0, len(frames), size):
        count = min(size, len(frames) - first)
        torch.mul(frames[first : first + count], hann, out=windowed[:count])
        torch.fft.rfft(windowed[:count], out=spectrum[:count])
        parts = torch.view_as_real(spectrum[:count])
        parts.square_()
        torch.add(parts[..., 0], parts[..., 1], out=power[first : first + count])
    return power.T


def log_mel(power: torch.Tensor, sample_rate_hz: int, bands: int) -> torch.Tensor:
    """Return (bands, T) decibels of a power spectrum in mel bands, at least ``FLOOR_DB``."""
    import torch

    window = 2 * (power.shape[0] - 1)
    mel = torch.from_numpy(mel_filters(sample_rate_hz, window, bands)).to(power.dtype) @ power
    return decibels(mel)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside: processes run beside each other, and sums never change their order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def decibels(power: torch.Tensor) -> torch.Tensor:
    """Return 10 log10 of power, at least ``FLOOR_DB``."""
    return power.clamp(min=10 ** (FLOOR_DB / 10)).log10_().mul_(10.0)


@lru_cache(maxsize=8)
def mel_filters(sample_rate_hz: int, window: int, bands: int) -> NDArray[np.float32]:
    """Return (bands, window // 2 + 1) triangular filters of equal area, on Slaney's mel scale.

    Slaney's scale is linear up to 1 kHz and logarithmic above (Auditory Toolbox, 1998).
    """
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(sample_rate_hz / 2), bands + 2))
    bins = np.linspace(0.0, sample_rate_hz / 2, window // 2 + 1)
    slopes = edges[:, None] - bins[None, :]
    widths = np.diff(edges)
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return np.asarray(filters, np.float32)


_LINEAR_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return hz / _LINEAR_HZ_PER_MEL if hz < _BREAK_HZ else float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    upper = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, _LINEAR_HZ_PER_MEL * mel, upper)
