"""Decode video and audio files with PyAV: frames at given times, mono sound."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.containers import Clock, Kind, MediaError, demuxed, only, opened, pick_stream, regular_file
from components.sound_graph import resampled_whole

# Sample formats: how a sample is stored, which value is silence, which is full scale.
_SAMPLES: Final[dict[str, tuple[type[np.generic], float, float]]] = {
    "u8": (np.uint8, 128.0, 128.0),
    "s16": (np.int16, 0.0, 2.0**15),
    "s32": (np.int32, 0.0, 2.0**31),
    "s64": (np.int64, 0.0, 2.0**63),
    "flt": (np.float32, 0.0, 1.0),
    "dbl": (np.float64, 0.0, 1.0),
}
_BLOCK: Final = 1 << 15  # samples resampled at once; fits a processor's cache
_SEEK_FROM_S: Final = 5.0  # earlier starts are reached as fast by decoding from the beginning
_LONG_S: Final = 20.0  # sounds of which opening the file again is a small part
_PREROLL_S: Final = 1.0  # lets overlapping and bit-reservoir audio codecs settle after a seek


def frames_at(path: Path, times_s: Sequence[float], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the frame on screen at each of ``times_s`` (ascending), upright and scaled.

    That is the last frame at or before each time; the first frame where none is, the last where the
    picture ends earlier. One sequential decode; only the frames returned are converted.

    Args:
        path: the file.
        times_s: T times in seconds from the file's start, ascending.
        size: (width, height) in pixels; the picture is stretched to it.

    Returns:
        (T, height, width, 3) uint8 RGB.

    Raises:
        MediaError: unreadable, empty_file, not_media or no_video.
    """
    if any(later < earlier for earlier, later in pairwise(times_s)):
        raise ValueError("frames_at: times must be ascending")
    sampler = FrameSampler(times_s, size)
    for time_s, frame in decoded(path, "video", times_s[0] if len(times_s) else 0.0):
        if sampler.feed(time_s, frame):
            break
    return sampler.finish()


def mono(path: Path, rate_hz: int, start_s: float = 0.0, end_s: float | None = None) -> NDArray[np.float32]:
    """Return the sound between ``start_s`` and ``end_s`` as one channel at ``rate_hz``.

    Sample 0 is at ``start_s`` on the clock that ``frames_at`` uses; sound that begins later is padded
    with silence, sound that ends earlier gives fewer samples. Channels are averaged, so [-1, 1] stays.

    Returns:
        (N,) float32.

    Raises:
        MediaError: unreadable, empty_file, not_media or no_audio.
    """
    collector = SoundCollector(rate_hz, start_s, end_s)
    if start_s > _PREROLL_S:
        for time_s, frame in decoded(path, "audio", start_s - _PREROLL_S):
            if collector.feed(time_s, frame):
                break
        return collector.finish()
    with regular_file(path) as handle, demuxed(handle) as container:
        stream = _only_stream(container, "audio")
        frames = _frames(container, stream, None)
        first = next(frames, None)
        if first is not None and _is_long_and_ends_by(container, stream, end_s):
            sound = resampled_whole(handle, container, stream, first[1], rate_hz)
            if sound is not None:
                return _part(sound, first[0], rate_hz, start_s, end_s)
        for time_s, frame in frames if first is None else chain([first], frames):
            if collector.feed(time_s, frame):
                break
    return collector.finish()


class FrameSampler:
    """Pick, from frames fed in order, the one on screen at each wanted time."""

    def __init__(self, times_s: Sequence[float], size: tuple[int, int], pixels: str = "rgb24") -> None:
        """``pixels`` is rgb24 (T, h, w, 3) or gray (T, h, w)."""
        from av.video.reformatter import VideoReformatter

        self._times_s = list(times_s)
        self._size = size
        self._pixels = pixels
        self._scaler = VideoReformatter()  # keeps swscale's tables between frames
        self._held: Any = None
        self._last: Any = None  # the frame behind the newest image
        self._images: list[NDArray[np.uint8]] = []

    def feed(self, time_s: float, frame: Any) -> bool:
        """Take the next frame; True when every time is served and decoding may stop."""
        while len(self._images) < len(self._times_s) and self._times_s[len(self._images)] < time_s - 1e-6:
            self._take(self._held if self._held is not None else frame)
        self._held = frame
        return len(self._images) == len(self._times_s)

    def finish(self) -> NDArray[np.uint8]:
        """Serve the times after the last frame and return all images."""
        if self._held is None and self._times_s:
            raise MediaError("unreadable", "no picture could be decoded")
        while len(self._images) < len(self._times_s):
            self._take(self._held)
        width, height = self._size
        shape = (0, height, width, 3) if self._pixels == "rgb24" else (0, height, width)
        return np.stack(self._images) if self._images else np.zeros(shape, np.uint8)

    def _take(self, frame: Any) -> None:
        if self._images and frame is self._last:
            self._images.append(self._images[-1])
            return
        quarter_turns = round(frame.rotation / 90) % 4  # phones store a turned picture and an angle
        width, height = self._size if quarter_turns % 2 == 0 else self._size[::-1]
        scaled = self._scaler.reformat(frame, width, height, self._pixels, interpolation="AREA", threads=1)
        self._images.append(np.ascontiguousarray(np.rot90(scaled.to_ndarray(), quarter_turns)))
        self._last = frame


class SoundCollector:
    """Gather audio frames fed in order and turn the wanted part into mono at one rate, at once."""

    def __init__(self, rate_hz: int, start_s: float = 0.0, end_s: float | None = None) -> None:
        """``rate_hz`` is the rate of the result."""
        self._rate_hz = rate_hz
        self._start_s = start_s
        self._end_s = end_s
        self._runs: list[_Run] = []

    def feed(self, time_s: float, frame: Any) -> bool:
        """Take the next frame; True when ``end_s`` is passed and decoding may stop."""
        if self._end_s is not None and time_s >= self._end_s:
            return True
        if time_s + frame.samples / frame.sample_rate <= self._start_s - _PREROLL_S:
            return False
        key = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
        if not self._runs or self._runs[-1].key != key:
            self._runs.append(_Run(key, time_s))
        self._runs[-1].add(frame)
        return False

    def finish(self) -> NDArray[np.float32]:
        """Resample each run of equal frames once, and lay the runs end to end."""
        if not self._runs:
            return np.zeros(0, np.float32)
        sound = np.concatenate([run.mono(self._rate_hz) for run in self._runs])
        return _part(sound, self._runs[0].time_s, self._rate_hz, self._start_s, self._end_s)


class _Run:
    """Audio frames of one sample format, layout and rate, mixed to one channel as they come."""

    def __init__(self, key: tuple[str, int, int], time_s: float) -> None:
        self.key = key
        self.time_s = time_s
        self._dtype, self._zero, self._full = _SAMPLES[key[0].removesuffix("p")]
        self._parts: list[NDArray[Any]] = []

    def add(self, frame: Any) -> None:
        # Views of the decoder's own buffers: PyAV's to_ndarray for each frame costs as much as decoding.
        planes: list[NDArray[Any]] = [np.frombuffer(plane, self._dtype) for plane in frame.planes]
        count, channels = frame.samples, self.key[1]
        if len(planes) == channels:
            mixed = planes[0][:count].astype(np.float64 if self._full > 2.0**15 else np.float32)
            for plane in planes[1:]:
                np.add(mixed, plane[:count], out=mixed)
        else:
            mixed = planes[0][: count * channels].reshape(count, channels).sum(1, dtype=np.float64)
        self._parts.append(mixed)

    def mono(self, rate_hz: int) -> NDArray[np.float32]:
        from av import AudioFrame, AudioResampler

        _, channels, source_hz = self.key
        sound: NDArray[np.float32] = np.concatenate(self._parts, dtype=np.float32, casting="unsafe")
        if channels * self._full != 1.0:
            sound *= np.float32(1 / (channels * self._full))
        if self._zero:
            sound -= np.float32(self._zero / self._full)
        if source_hz == rate_hz:
            return sound
        resampler = AudioResampler("fltp", "mono", rate_hz)
        frames: list[Any] = []
        for start in range(0, len(sound), _BLOCK):
            block = AudioFrame.from_ndarray(sound[None, start : start + _BLOCK], format="fltp", layout="mono")
            block.sample_rate = source_hz
            frames += resampler.resample(block)
        return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])


def _part(
    sound: NDArray[np.float32], time_s: float, rate_hz: int, start_s: float, end_s: float | None
) -> NDArray[np.float32]:
    """Return what lies between two times of a sound that begins at ``time_s``, within [-1, 1]."""
    early = round((start_s - time_s) * rate_hz)  # samples before start_s
    sound = sound[early:] if early >= 0 else np.concatenate([np.zeros(-early, np.float32), sound])
    if end_s is not None:
        sound = sound[: max(0, round((end_s - start_s) * rate_hz))]
    return np.clip(sound, -1.0, 1.0, out=sound)


def _is_long_and_ends_by(container: Any, stream: Any, end_s: float | None) -> bool:
    """Tell whether, by the header, a stream is worth opening twice and has no sound after ``end_s``."""
    if (container.duration or 0) / 1e6 < _LONG_S:
        return False
    if end_s is None:
        return True
    if stream.duration is None or not stream.time_base:
        return False
    last_s = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return last_s - (container.start_time or 0) / 1e6 <= end_s + 1e-3


def decoded(path: Path, kind: Kind, from_s: float) -> Iterator[tuple[float, Any]]:
    """Yield (time, frame) of one stream in order, from a key frame before ``from_s`` on.

    Packets that cannot be decoded are skipped: `ingest` has judged the file, what follows uses it.

    Raises:
        MediaError: unreadable, empty_file, not_media, no_video or no_audio.
    """
    if from_s > _SEEK_FROM_S:
        frames = _stream_frames(path, kind, from_s)
        first = next(frames, None)
        if first is not None and first[0] <= from_s:
            yield first
            yield from frames
            return
    # Near the start; or the seek landed too late, as with formats without a trustworthy index.
    yield from _stream_frames(path, kind, None)


def _stream_frames(path: Path, kind: Kind, seek_s: float | None) -> Iterator[tuple[float, Any]]:
    with opened(path) as container:
        yield from _frames(container, _only_stream(container, kind), seek_s)


def _only_stream(container: Any, kind: Kind) -> Any:
    stream = pick_stream(container, kind)
    if stream is None:
        raise MediaError(f"no_{kind}", f"the file has no {kind} stream")
    only(container, stream)
    return stream


def _frames(container: Any, stream: Any, seek_s: float | None) -> Iterator[tuple[float, Any]]:
    import av

    clock = Clock(container, stream)
    if seek_s is not None and not _seek(container, stream, seek_s):
        return
    with suppress(av.error.FFmpegError):  # the container breaks off: what came before stands
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                if seek_s is not None and frame.pts is None:
                    return  # after a seek only timestamps tell where we are
                yield clock.time(frame), frame


def _seek(container: Any, stream: Any, time_s: float) -> bool:
    import av

    ticks = int((time_s + (container.start_time or 0) / 1e6) / stream.time_base)
    try:
        container.seek(ticks, stream=stream)
    except av.error.FFmpegError:
        return False
    return True
