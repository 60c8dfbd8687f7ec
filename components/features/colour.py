"""What pictures are painted with: hue, saturation and light, over the frame and in its parts.

T pictures, h x w pixels. Colours come as three planes, (3, T, h, w): numpy is several times faster on
them than on triples. Every function returns one row per picture.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

COLOUR_DIMS = 66

_HUES, _SATURATIONS, _LIGHTS = 24, 6, 8
_GRID = 3


def colour(planes: Array) -> Array:
    """Return (T, 66): mean and spread of the channels, histograms of hue, saturation and light, a 3 x 3 grid.

    Args:
        planes: (3, T, h, w) red, green and blue in [0, 1].
    """
    pixels = planes.reshape(*planes.shape[:2], -1)
    hue, saturation, light = _hue_saturation_light(pixels)
    vivid = saturation * light
    warmth = (vivid * np.cos(2 * np.pi * hue)).mean(axis=1, keepdims=True)
    freshness = (vivid * np.sin(2 * np.pi * hue)).mean(axis=1, keepdims=True)
    hues = _histogram(hue, _HUES, vivid)
    return np.hstack(
        [
            2 * pixels.mean(axis=2).T,
            4 * pixels.std(axis=2).T,
            4 * np.hstack([warmth, freshness, vivid.mean(axis=1, keepdims=True), light.std(axis=1, keepdims=True)]),
            4 * np.sqrt(hues / (hues.sum(axis=1, keepdims=True) + 1e-3)),
            4 * np.sqrt(_histogram(saturation, _SATURATIONS)),
            4 * np.sqrt(_histogram(light, _LIGHTS)),
            2 * grid_means((planes[0] + planes[1] + planes[2]) / 3),
            4 * grid_means(planes[0] - planes[2]),
        ]
    ).astype(np.float32)


def grid_means(pictures: Array) -> Array:
    """Return (T, 9): means of the nine parts of each picture (T, h, w), row by row."""
    count, height, width = pictures.shape
    rows = np.linspace(0, height, _GRID + 1).astype(int)
    columns = np.linspace(0, width, _GRID + 1).astype(int)
    cells = np.add.reduceat(np.add.reduceat(pictures, rows[:-1], axis=1), columns[:-1], axis=2)
    areas = np.diff(rows)[:, None] * np.diff(columns)[None, :]
    return np.asarray((cells / areas).reshape(count, -1), np.float32)


def _hue_saturation_light(pixels: Array) -> tuple[Array, Array, Array]:
    """Return hue in turns, saturation and value, each (T, P), of (3, T, P)."""
    red, green, blue = pixels
    light = np.maximum(np.maximum(red, green), blue)
    chroma = light - np.minimum(np.minimum(red, green), blue)
    safe = np.maximum(chroma, 1e-6)
    sixth = np.where(
        light == red,
        (green - blue) / safe % 6,
        np.where(light == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    saturation = chroma / np.maximum(light, 1e-6)
    return (sixth / 6).astype(np.float32), saturation.astype(np.float32), light


def _histogram(values: Array, bins: int, weights: Array | None = None) -> Array:
    """Return (T, bins): the share (or the mean weight) of pixels whose value in [0, 1] is in each bin."""
    count, pixels = values.shape
    cell = np.minimum((values * bins).astype(np.int64), bins - 1) + bins * np.arange(count)[:, None]
    flat = None if weights is None else weights.ravel()
    totals = np.bincount(cell.ravel(), flat, bins * count).reshape(count, bins)
    return np.asarray(totals / pixels, np.float32)
