"""Spectra of sound: short-time power spectrum, mel bands and decibels, as librosa defines them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # seconds to load, and no process but those that compute needs it
    import torch

_SAMPLES = 3 << 16  # of windowed frames at a time: with their spectra about what a processor's own cache holds
_BANDS = 16  # of mel at a time: as many float32 numbers as the widest registers hold
_AVX_512 = {"SkylakeX", "Cooperlake", "SapphireRapids"}  # kernels of OpenBLAS
FLOOR_DB = -100.0  # 10 log10 of the smallest power told apart from silence


def power_spectrum(samples: NDArray[np.floating], window: int, hop: int) -> torch.Tensor:
    """Return (window // 2 + 1, T) power of ``samples``, Hann windows centred on multiples of ``hop``.

    Computed in the precision of ``samples``.
    """
    import torch

    power = empty_power(samples, window, hop)
    for _ in _parts(samples, window, hop, power):
        pass
    return torch.from_numpy(power).T


def empty_power(samples: NDArray[np.floating], window: int, hop: int) -> NDArray[np.floating]:
    """Return (T, window // 2 + 1), to be filled with power."""
    return np.empty((len(samples) // hop + 1, window // 2 + 1), samples.dtype)


def log_mel(
    samples: NDArray[np.floating],
    sample_rate_hz: int,
    window: int,
    hop: int,
    bands: int,
    power: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Return (bands, T) decibels of the power spectrum in mel bands, at least ``FLOOR_DB``.

    The bands are computed from each part of the spectrum while it is still in the cache. In memory a frame's
    numbers lie together.

    Args:
        samples: (N,), in the precision to compute in.
        sample_rate_hz: of ``samples``.
        window: as in ``power_spectrum``.
        hop: as in ``power_spectrum``.
        bands: how many.
        power: of ``empty_power``, filled on the way, for those who want the spectrum too.
    """
    mel = np.empty((len(samples) // hop + 1, bands), samples.dtype)
    groups = _band_groups(sample_rate_hz, window, bands, samples.dtype)
    for frames, part in _parts(samples, window, hop, power):
        banded = mel[frames]
        for some, bins, weights in groups:
            np.matmul(part[:, bins], weights, out=banded[:, some])
    return decibels(mel).T


def _parts(
    samples: NDArray[np.floating], window: int, hop: int, power: NDArray[np.floating] | None
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Yield frames and their power, which lies in ``power`` (T, window // 2 + 1), or is overwritten by the next.

    Everything else stays in the same memory: what is not written to memory is not read from it either.
    """
    import torch

    x = torch.from_numpy(np.ascontiguousarray(samples))
    hann = _hann(window, x.dtype)
    total, size = len(samples) // hop + 1, max(1, _SAMPLES // window)
    windowed = x.new_empty(size, window)
    spare = windowed.numpy().reshape(-1)  # once they are transformed
    passing = np.empty((size, window // 2 + 1), samples.dtype)
    for first in range(0, total, size):
        frames = slice(first, min(first + size, total))
        count = frames.stop - first
        start = first * hop - window // 2
        stop = start + (count - 1) * hop + window
        heard = x[max(start, 0) : stop]
        if start < 0 or stop > len(x):
            heard = torch.nn.functional.pad(heard, (max(-start, 0), max(stop - len(x), 0)))
        inside = windowed[:count]
        torch.mul(heard.unfold(0, window, hop), hann, out=inside)
        # Without out=, which makes the same tensor and then copies it.
        parts = torch.fft.rfft(inside).numpy().view(samples.dtype)  # (count, 2 (window // 2 + 1)): real, imaginary, ...
        part = passing[:count] if power is None else power[frames]
        _squared_size(parts, part, spare[: part.size].reshape(part.shape))
        del parts  # for the next ones to lie where these did
        yield frames, part


def _squared_size(parts: NDArray[np.floating], power: NDArray[np.floating], spare: NDArray[np.floating]) -> None:
    """Put re^2 + im^2 of ``parts`` (count, 2 F) into ``power`` (count, F); the others are written over.

    Both ways give the same bits; which is quicker depends on the kernels of numpy's linear algebra.
    """
    if _thin_products():  # several frames to a call
        np.square(parts, out=parts)
        calls = len(parts) // math.gcd(len(parts), 8)
        np.matmul(parts.reshape(calls, -1, 2), np.ones(2, parts.dtype), out=power.reshape(calls, -1))
    else:  # numpy has vector instructions for squares of every second number, and none for their sum
        np.square(parts[:, 0::2], out=power)
        np.square(parts[:, 1::2], out=spare)
        np.add(power, spare, out=power)


@lru_cache(maxsize=1)
def _thin_products() -> bool:
    """Return whether products with two columns are quick: OpenBLAS has a kernel for them on AVX-512 alone."""
    return any(library.get("architecture") in _AVX_512 for library in _blas().info())


@lru_cache(maxsize=8)
def _hann(window: int, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.hann_window(window, periodic=True, dtype=dtype)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside: processes run beside each other, and sums never change their order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _blas().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _blas() -> Any:
    """Return what sets the threads of numpy's products; looking for the library takes milliseconds."""
    return importlib.import_module("threadpoolctl").ThreadpoolController()


def decibels(power: NDArray[np.floating]) -> NDArray[np.floating]:
    """Turn power into 10 log10 of it, at least ``FLOOR_DB``, in place."""
    with np.errstate(divide="ignore"):  # of silence it is -infinity
        np.log(power, out=power)  # not log10, which is as quick on some processors only
    power *= 10.0 / math.log(10.0)
    np.maximum(power, FLOOR_DB, out=power)
    return power


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


@lru_cache(maxsize=8)
def _band_groups(
    sample_rate_hz: int, window: int, bands: int, dtype: np.dtype[np.floating]
) -> list[tuple[slice, slice, NDArray[np.floating]]]:
    """Return ``mel_filters`` in parts: bands, bins, and the weights (bins, bands) between them.

    A filter covers few of the bins, and neighbours nearly the same ones; the rest of the matrix is zeros.
    """
    filters = mel_filters(sample_rate_hz, window, bands).astype(dtype)
    groups = []
    for first in range(0, bands, _BANDS):
        some = slice(first, min(first + _BANDS, bands))
        used = np.flatnonzero(filters[some].any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
        groups.append((some, bins, np.ascontiguousarray(filters[some, bins].T)))
    return groups


_LINEAR_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return hz / _LINEAR_HZ_PER_MEL if hz < _BREAK_HZ else float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    upper = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, _LINEAR_HZ_PER_MEL * mel, upper)
