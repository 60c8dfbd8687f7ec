"""Open media files safely and read their headers: the container side of decoding.

Everything here reads files the user was given by others, so nothing in a name or in a file can make
the decoder open anything else: files are opened by Python (a name like ``http:x`` or ``concat:a|b``
is a name), only self-contained formats are demuxed (no playlists), and nested opens are refused.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

Kind = Literal["video", "audio"]

# Demuxers that read one file and nothing else. Playlists and manifests (hls, dash, concat, sdp,
# image2) would read other paths or the network, so they count as "not media".
_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    *("matroska", "webm", "avi", "flv", "mpegts", "mpeg", "asf", "ogg", "wav", "w64", "aiff", "caf", "flac", "mp3"),
    *("aac", "mxf", "nut", "dv", "gif", "amr", "ac3", "eac3", "au", "swf", "rm", "wv", "ape", "tta", "ivf"),
)
_READ_BYTES: Final = 1 << 15  # streams may lie far apart in a file, and each jump reads this much


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


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a regular file for demuxing, whatever its name looks like.

    Raises:
        MediaError: unreadable (no such file, no permission, not a regular file), empty_file, not_media.
    """
    with regular_file(path) as handle, demuxed(handle) as container:
        yield container


@contextmanager
def regular_file(path: Path) -> Iterator[FileIO]:
    """Open a regular file that is not empty.

    Raises:
        MediaError: unreadable or empty_file.
    """
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
        yield handle


@contextmanager
def demuxed(handle: FileIO) -> Iterator[Any]:
    """Demux an open file.

    Raises:
        MediaError: not_media.
    """
    import av

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
