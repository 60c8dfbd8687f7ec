"""Video features: colour, edges, shapes and motion of each segment, from the pictures alone."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components import media
from components.features.colour import COLOUR_DIMS, colour
from components.features.motion import MOTION_DIMS, motion
from components.features.params import VideoParams
from components.features.segments import segment_masks, segment_starts
from components.features.shapes import SHAPE_DIMS, detail, edges, things
from components.features.source import Source
from components.features.timbre import pooled

VIDEO_DIMS = 2 * (COLOUR_DIMS + SHAPE_DIMS) + MOTION_DIMS


def video_features(source: Source, params: VideoParams, segment_s: float, max_segments: int) -> NDArray[np.float32]:
    """Return (S, D) features of a clip's pictures.

    Raises:
        MediaError: the pictures cannot be decoded.
    """
    duration_s = source.end_s - source.start_s
    starts = segment_starts(duration_s, segment_s, max_segments)
    times = np.arange(max(1, round(duration_s * params.motion_fps))) / params.motion_fps
    frames = media.frames_at(Path(source.uri), (source.start_s + times).tolist(), (params.width, params.height))
    return describe_pictures(frames, times, starts, segment_s, params)


def describe_pictures(
    frames: NDArray[np.uint8],
    times_s: NDArray[np.float64],
    starts_s: list[float],
    segment_s: float,
    params: VideoParams,
) -> NDArray[np.float32]:
    """Return (S, D) features of pictures (T, h, w, 3) shown at ``times_s``."""
    luma = _luma(frames)
    every = max(1, round(params.motion_fps / params.stills_per_s))
    stills = slice(min(every // 2, len(frames) - 1), None, every)
    planes = np.multiply(np.moveaxis(frames[stills], 3, 0), 1 / 255, dtype=np.float32, order="C")  # (3, T, h, w)
    looks = np.hstack([colour(planes), edges(luma[stills]), detail(luma[stills]), things(planes)])
    mean, deviation = pooled(looks.T, segment_masks(times_s[stills], starts_s, segment_s))
    moving = motion(luma, segment_masks(times_s, starts_s, segment_s), params.motion_fps)
    return np.hstack([mean, deviation, moving]).astype(np.float32)


def _luma(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (T, h, w) light in [0, 1] of (T, h, w, 3) colours (ITU-R BT.601)."""
    scale = 1 / 255
    luma = np.multiply(frames[..., 0], 0.299 * scale, dtype=np.float32)
    luma += np.multiply(frames[..., 1], 0.587 * scale, dtype=np.float32)
    luma += np.multiply(frames[..., 2], 0.114 * scale, dtype=np.float32)
    return luma
