"""Where a clip's segments lie."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def segment_starts(duration_s: float, segment_s: float, max_segments: int) -> list[float]:
    """Return where each segment starts, in seconds from the clip's start.

    A clip of a whole number of segments is tiled exactly. A rest of half a segment or more counts
    as one, and the segments then overlap a little; a clip that is longer than ``max_segments`` is
    sampled evenly. A clip shorter than a segment is one segment.
    """
    count = min(max_segments, max(1, int(duration_s / segment_s + 0.5 + 1e-6)))
    last = max(0.0, duration_s - segment_s)
    return [float(start) for start in np.linspace(0.0, last, count)]


def segment_masks(times_s: NDArray[np.float64], starts_s: Sequence[float], segment_s: float) -> NDArray[np.bool_]:
    """Return (S, T): which of T times lie in which segment; each segment has the nearest at least."""
    starts = np.asarray(starts_s)[:, None]
    masks = (times_s >= starts - 1e-6) & (times_s < starts + segment_s - 1e-6)
    nearest = np.abs(times_s[None, :] - (starts + segment_s / 2)).argmin(axis=1)
    masks[np.arange(len(starts)), nearest] = True
    return np.asarray(masks)
