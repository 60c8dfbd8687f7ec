"""Frames of a clip's segments, at the size that a model takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.containers import MediaError, only, opened, pick_stream
from components.features.hf.pixels import Pixels
from components.features.segments import segment_starts
from components.features.source import Source
from components.media import frames_at


def frames_per_segment(segment_s: float, frames_per_s: float) -> int:
    """Return how many frames a segment has (F)."""
    return max(1, round(segment_s * frames_per_s))


@dataclass(frozen=True)
class FrameReader:
    """Reads S segments of F frames each; see ``Reader``."""

    segment_s: float
    max_segments: int
    frames: int
    pixels: Pixels
    moving: bool
    """Whether the model takes a segment's frames together: items are (S, F, h, w, 3), else (S * F, h, w, 3)."""
    decodes: bool = True

    def __call__(self, source: Source) -> NDArray[np.uint8]:
        """Return the frames as they are on screen in the middle of each F-th of a segment.

        Raises:
            MediaError: the pictures cannot be decoded.
        """
        path, pixels = Path(source.uri), self.pixels
        starts = segment_starts(source.end_s - source.start_s, self.segment_s, self.max_segments)
        steps = (np.arange(self.frames) + 0.5) * self.segment_s / self.frames
        times = source.start_s + (np.asarray(starts)[:, None] + steps).ravel()
        # Segments of a clip that is no whole number of them overlap: frames are decoded once, in order.
        ordered, place = np.unique(np.minimum(times, source.end_s), return_inverse=True)
        width, height = pixels.decoded(*((0, 0) if pixels.fit == "stretch" else upright_size(path)))
        shown = frames_at(path, ordered.tolist(), (width, height))[place]
        rows, columns = pixels.kept(width, height)
        shown = np.ascontiguousarray(shown[:, rows, columns])
        return shown.reshape(len(starts), self.frames, *shown.shape[1:]) if self.moving else shown


def upright_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of a file's pictures as they are shown, from its first picture.

    Raises:
        MediaError: there is no picture in it.
    """
    import av

    with opened(path) as container:
        stream = pick_stream(container, "video")
        if stream is None:
            raise MediaError("no_video", "the file has no video stream")
        only(container, stream)
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            frame = _first(packet, av.error.FFmpegError)
            if frame is not None:
                turned = round(frame.rotation / 90) % 2 == 1
                return (frame.height, frame.width) if turned else (frame.width, frame.height)
    raise MediaError("unreadable", "no picture could be decoded")


def _first(packet: Any, failure: type[Exception]) -> Any:
    try:
        return next(iter(packet.decode()), None)
    except failure:
        return None
