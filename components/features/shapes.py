"""What pictures show: edges and their directions, fine or coarse detail, things before a background.

T pictures, h x w pixels; every function returns one row per picture.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from components.features.colour import Array, grid_means

SHAPE_DIMS = 20 + 8 + 37  # edges, detail, things

_DIRECTIONS = 8
_DETAIL_BANDS = 8
_STANDS_OUT = (0.08, 0.16, 0.32)  # distances from the background's colour, of [0, 1] per channel


def edges(luma: Array) -> Array:
    """Return (T, 20): how much edge there is, in which directions, where."""
    across, down = gradients(luma)
    strength = np.hypot(across, down)
    direction = np.arctan2(down, across) / np.pi % 1.0
    cell = np.minimum((direction * _DIRECTIONS).astype(np.int64), _DIRECTIONS - 1)
    count = len(luma)
    cell += _DIRECTIONS * np.arange(count)[:, None, None]
    total = np.bincount(cell.ravel(), strength.ravel(), _DIRECTIONS * count).reshape(count, _DIRECTIONS)
    shares = total / (total.sum(axis=1, keepdims=True) + 1e-3)
    density = [(strength > level).mean(axis=(1, 2)) for level in (0.03, 0.1)]
    amount = np.stack([10 * strength.mean(axis=(1, 2)), *[2 * share for share in density]], axis=1)
    return np.hstack([amount, 4 * shares, 10 * grid_means(strength)]).astype(np.float32)


def gradients(luma: Array) -> tuple[Array, Array]:
    """Return central differences across and down, each of the shape of ``luma`` (T, h, w)."""
    across, down = np.zeros_like(luma), np.zeros_like(luma)
    across[:, :, 1:-1] = 0.5 * (luma[:, :, 2:] - luma[:, :, :-2])
    down[:, 1:-1, :] = 0.5 * (luma[:, 2:, :] - luma[:, :-2, :])
    return across, down


def detail(luma: Array) -> Array:
    """Return (T, 8): log energy of coarse to fine detail (rings of the spatial spectrum)."""
    _, height, width = luma.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    spectrum = np.fft.rfft2((luma - luma.mean(axis=(1, 2), keepdims=True)) * window.astype(np.float32))
    power = np.abs(spectrum) ** 2 / (height * width)
    # Cycles per picture height, so that both axes count alike whatever the frame's shape.
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]) * height
    rings = np.geomspace(0.7, height / 2, _DETAIL_BANDS + 1)
    inside = [(radius >= low) & (radius < high) for low, high in pairwise(rings)]
    energy = np.stack([power[:, ring].sum(axis=1) for ring in inside], axis=1)
    return (np.log(energy + 1e-3) / 2).astype(np.float32)


def things(planes: Array) -> Array:
    """Return (T, 37): what stands out of the background (the median colour of the frame's rim).

    Background and foreground colour, and at three contrasts the area, the number of separate things,
    their outline, roundness, place and extent.

    Args:
        planes: (3, T, h, w) red, green and blue in [0, 1].
    """
    background = rim_median(planes)  # (3, T)
    away = np.abs(planes - background[:, :, None, None])
    distance = np.maximum(np.maximum(away[0], away[1]), away[2])
    outlines = [_outline(distance > level) for level in _STANDS_OUT]
    inside = distance > _STANDS_OUT[0]
    foreground = (planes * inside).sum(axis=(2, 3)) / (inside.sum(axis=(1, 2)) + 1)
    contrast = [distance.mean(axis=(1, 2)), distance.max(axis=(1, 2)), distance.std(axis=(1, 2))]
    vivid = np.ptp(background, axis=0)
    return np.hstack([background.T, vivid[:, None], *outlines, foreground.T, np.stack(contrast, axis=1)]).astype(
        np.float32
    )


def rim_median(pictures: Array) -> Array:
    """Return the median (...,) of the outermost pixels of pictures (..., h, w)."""
    rim = [pictures[..., 0, :], pictures[..., -1, :], pictures[..., :, 0], pictures[..., :, -1]]
    return np.asarray(np.median(np.concatenate(rim, axis=-1), axis=-1), np.float32)


def _outline(mask: NDArray[np.bool_]) -> Array:
    """Return (T, 9): area, count, outline, size, roundness, centre (x, y), extent (x, y) of a mask."""
    _, height, width = mask.shape
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    # Each 2 x 2 neighbourhood's number of set pixels gives Euler number and outline (Gray, 1971).
    quad = padded[:, :-1, :-1].astype(np.int8) + padded[:, :-1, 1:] + padded[:, 1:, :-1] + padded[:, 1:, 1:]
    diagonal = (quad == 2) & (padded[:, :-1, :-1] == padded[:, 1:, 1:])
    ones, threes = (quad == 1).sum(axis=(1, 2)), (quad == 3).sum(axis=(1, 2))
    number = np.maximum(0.0, (ones - threes - 2 * diagonal.sum(axis=(1, 2))) / 4)
    outline = (ones + threes) / np.sqrt(2) + (quad == 2).sum(axis=(1, 2))
    area = mask.sum(axis=(1, 2))
    rows, columns = mask.sum(axis=2), mask.sum(axis=1)
    x, spread_x = _moments(columns)
    y, spread_y = _moments(rows)
    roundness = 4 * np.pi * area / (outline**2 + 1)
    each = np.log1p(area / np.maximum(1, number))
    scale = height * width
    table = [
        4 * area / scale,
        np.log1p(number),
        outline / (height + width),
        each / 4,
        roundness * np.maximum(1, number),
    ]
    return np.stack([*table, 2 * x, 2 * y, 4 * spread_x, 4 * spread_y], axis=1).astype(np.float32)


def _moments(profile: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean place and spread, each (T,) in widths, of counts (T, n) along an axis."""
    places = (np.arange(profile.shape[1]) + 0.5) / profile.shape[1] - 0.5
    total = np.maximum(1, profile.sum(axis=1))
    mean = (profile * places).sum(axis=1) / total
    spread = np.sqrt(np.maximum(0.0, (profile * places**2).sum(axis=1) / total - mean**2))
    return mean, spread
