"""How pictures move: how much, how fast, where, and at which periods.

T pictures at ``motion_fps``, h x w pixels, S segments.
"""

import numpy as np
from numpy.typing import NDArray

from components.features.colour import Array, grid_means
from components.features.rhythm import tempo_profile
from components.features.shapes import gradients, rim_median
from components.features.timbre import pooled

_GAPS = (1, 2, 4)  # pictures between the two of a pair
_RHYTHM_POINTS = 24
_TRACKS = 3
MOTION_DIMS = 2 * (3 * len(_GAPS) + 1 + _TRACKS) + 9 + (2 + _TRACKS) * _RHYTHM_POINTS


def motion(luma: Array, masks: NDArray[np.bool_], fps: float) -> Array:
    """Return (S, 155): amount and speed of motion, where it is, and the rhythm of the whole clip.

    Args:
        luma: (T, h, w) in [0, 1].
        masks: (S, T).
        fps: pictures per second.
    """
    # Change over slope is speed, whatever the picture's contrast and detail.
    slope = sum(np.abs(part).mean(axis=(1, 2)) for part in gradients(luma)) + 1e-3
    first = _change(luma, 1)
    levels = []
    for gap in _GAPS:
        change = first if gap == 1 else _change(luma, gap)
        mean = change.mean(axis=(1, 2))
        levels += [20 * mean, mean / slope, (change > 0.05).mean(axis=(1, 2))]
    light, tracks = luma.mean(axis=(1, 2)), _tracks(luma)
    flicker = np.abs(np.diff(light, prepend=light[0]))
    shifts = np.abs(np.diff(tracks, axis=1, prepend=tracks[:, :1]))
    mean, deviation = pooled(np.stack([*levels, 20 * flicker, *(4 * shifts)]).astype(np.float32), masks)
    place, _ = pooled(20 * grid_means(first).T, masks)
    pulses = np.stack([levels[0], light, *tracks]).astype(np.float32)
    rhythm = tempo_profile(pulses, fps, _RHYTHM_POINTS).ravel()
    return np.hstack([mean, deviation, place, np.broadcast_to(rhythm, (len(masks), len(rhythm)))]).astype(np.float32)


def _change(luma: Array, gap: int) -> Array:
    """Return (T, h, w): how far each pixel is from what it was ``gap`` pictures ago; 0 before that."""
    change = np.zeros_like(luma)
    np.abs(luma[gap:] - luma[:-gap], out=change[gap:])
    return change


def _tracks(luma: Array) -> Array:
    """Return (3, T): area and centre (x, y) of what stands out of the rim's median light."""
    _, height, width = luma.shape
    outside = np.abs(luma - rim_median(luma)[:, None, None]) > 0.1
    rows, columns = outside.sum(axis=2), outside.sum(axis=1)
    area = rows.sum(axis=1)
    x = (columns * np.linspace(-1, 1, width)).sum(axis=1) / np.maximum(1, area)
    y = (rows * np.linspace(-1, 1, height)).sum(axis=1) / np.maximum(1, area)
    return np.stack([area / (height * width), x, y]).astype(np.float32)
