"""Decode video and audio files with PyAV: what is in a file, frames at given times, mono sound.

Everything here reads files the user was given by others, so nothing in a name or in a file can make
the decoder open anything else: files are opened by Python (a name like ``http:x`` or ``concat:a|b``
is a name), only self-contained formats are demuxed (no playlists), and nested opens are refused.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

Kind = Literal["video", "audio"]

# Demuxers that read one file and nothing else. Playlists and manifests (hls, dash, concat, sdp,
# image2) would read other paths or the network, so they count as "not media".
_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    *("matroska", "webm", "avi", "flv", "mpegts", "mpeg", "asf", "ogg", "wav", "w64", "aiff", "caf", "flac", "mp3"),
    *("aac", "mxf", "nut", "dv", "gif", "amr", "ac3", "eac3", "au", "swf", "rm", "wv", "ape", "tta", "ivf"),
)
# Sample formats: how a sample is stored, which value is silence, which is full scale.
_SAMPLES: Final[dict[str, tuple[type[np.generic], float, float]]] = {
    "u8": (np.uint8, 128.0, 128.0),
    "s16": (np.int16, 0.0, 2.0**15),
    "s32": (np.int32, 0.0, 2.0**31),
    "s64": (np.int64, 0.0, 2.0**63),
    "flt": (np.float32, 0.0, 1.0),
    "dbl": (np.float64, 0.0, 1.0),
}
_READ_BYTES: Final = 1 << 15  # streams may lie far apart in a file, and each jump reads this much
_BLOCK: Final = 1 << 15  # samples resampled at once; fits a processor's cache
_SEEK_FROM_S: Final = 5.0  # earlier starts are reached as fast by decoding from the beginning
_PREROLL_S: Final = 1.0  # lets overlapping and bit-reservoir audio codecs settle after a seek


class MediaError(ValueError):
    """A file cannot be used. ``reason`` is a quarantine code, ``detail`` a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep both parts; the message joins them."""
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        """One line: code, then detail."""
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Probe:
    """What a file's header says; None where there is no such stream or the header is silent."""

    container: str
    video_codec: str | None
    audio_codec: str | None
    width: int | None
    height: int | None
    duration_s: float | None
    fps: float | None
    sample_rate_hz: int | None
    channels: int | None


def probe(path: Path) -> Probe:
    """Read the header of ``path``; nothing is decoded.

    Raises:
        MediaError: unreadable, empty_file or not_media.
    """
    with opened(path) as container:
        return describe(container)


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
    for time_s, frame in _decoded(path, "video", times_s[0] if len(times_s) else 0.0):
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
    for time_s, frame in _decoded(path, "audio", start_s - _PREROLL_S):
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
        early = round((self._start_s - self._runs[0].time_s) * self._rate_hz)  # samples before start_s
        sound = sound[early:] if early >= 0 else np.concatenate([np.zeros(-early, np.float32), sound])
        if self._end_s is not None:
            sound = sound[: max(0, round((self._end_s - self._start_s) * self._rate_hz))]
        return np.clip(sound, -1.0, 1.0, out=sound)


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


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a regular file for demuxing, whatever its name looks like.

    Raises:
        MediaError: unreadable (no such file, no permission, not a regular file), empty_file, not_media.
    """
    import av

    try:
        # O_NONBLOCK: a pipe put where a file should be must not hang the run.
        handle = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except (OSError, ValueError) as error:
        raise MediaError("unreadable", getattr(error, "strerror", None) or str(error)) from None
    with handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise MediaError("unreadable", "not a regular file")
        if status.st_size == 0:
            raise MediaError("empty_file", "zero bytes")
        try:
            container = av.open(
                handle,
                container_options={"format_whitelist": ",".join(_FORMATS)},
                buffer_size=_READ_BYTES,
                metadata_errors="replace",
                io_open=_refuse_nested,
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError("not_media", f"no known container ({_strerror(error)})") from None
        with container:
            yield container


def describe(container: Any) -> Probe:
    """Probe an opened container."""
    video, audio = pick_stream(container, "video"), pick_stream(container, "audio")
    lengths = [float(s.duration * s.time_base) for s in (video, audio) if s is not None and s.duration and s.time_base]
    duration_s = container.duration / 1e6 if container.duration else max(lengths, default=None)
    rate = None if video is None else video.average_rate or video.guessed_rate
    return Probe(
        container=_container_name(container),
        video_codec=None if video is None else video.codec_context.name,
        audio_codec=None if audio is None else audio.codec_context.name,
        width=None if video is None else video.codec_context.width,
        height=None if video is None else video.codec_context.height,
        duration_s=duration_s,
        fps=float(rate) if rate else None,
        sample_rate_hz=None if audio is None else audio.codec_context.sample_rate,
        channels=None if audio is None else audio.codec_context.channels,
    )


def pick_stream(container: Any, kind: Kind) -> Any:
    """Return the stream to use: the largest picture or the most channels; None if there is none.

    Cover art is stored as a video stream of one picture; it is not video. Streams that no decoder
    here knows, or that declare no size or rate, do not count either.
    """
    if kind == "video":
        streams = [s for s in container.streams.video if s.codec_context and not _is_cover(s)]
        return max(streams, key=lambda s: s.codec_context.width * s.codec_context.height, default=None)
    streams = [s for s in container.streams.audio if s.codec_context and s.codec_context.sample_rate]
    return max(streams, key=lambda s: s.codec_context.channels, default=None)


def only(container: Any, *streams: Any) -> None:
    """Have the demuxer skip all streams but ``streams``; most formats then do not even read them."""
    from av.stream import Discard

    for stream in container.streams:
        if stream.index not in [wanted.index for wanted in streams]:
            stream.discard = Discard.all


class Clock:
    """Time of each decoded frame from the file's start, also where timestamps are missing.

    Zero is the container's first timestamp, so picture and sound share one clock.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        """Prepare one stream for decoding: one thread, since callers run one process per core."""
        stream.codec_context.thread_count = 1
        rate = getattr(stream, "average_rate", None)
        self._zero_s = float(container.start_time or 0) / 1e6
        self._tick_s = float(stream.time_base or 0)  # exact fractions would cost more than the decoding
        self._step_s = float(1 / rate) if rate else 0.04
        self._next_s = 0.0

    def at(self, ticks: int | None) -> float | None:
        """Return a packet's timestamp in seconds from the file's start."""
        return None if ticks is None else ticks * self._tick_s - self._zero_s

    def length_s(self, ticks: int | None) -> float:
        """Return a packet's length in seconds; 0 where it has none."""
        return (ticks or 0) * self._tick_s

    def time(self, frame: Any) -> float:
        """Return a frame's time; where it has none, it follows the frame before it."""
        known_s = frame.time
        time_s = self._next_s if known_s is None else known_s - self._zero_s
        samples = getattr(frame, "samples", 0)
        self._next_s = time_s + (samples / frame.sample_rate if samples else self._step_s)
        return time_s


def _decoded(path: Path, kind: Kind, from_s: float) -> Iterator[tuple[float, Any]]:
    """Yield (time, frame) of one stream in order, from a key frame before ``from_s`` on.

    Packets that cannot be decoded are skipped: `ingest` has judged the file, what follows uses it.
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
    import av

    with opened(path) as container:
        stream = pick_stream(container, kind)
        if stream is None:
            raise MediaError(f"no_{kind}", f"the file has no {kind} stream")
        only(container, stream)
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


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic) or not stream.codec_context.width


def _container_name(container: Any) -> str:
    name = str(container.format.name).split(",")[0]
    if name != "mov":
        return name
    return "mov" if container.metadata.get("major_brand", "qt").strip() == "qt" else "mp4"


def _refuse_nested(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError(f"a media file may not open another: {url!r}")


def _strerror(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
