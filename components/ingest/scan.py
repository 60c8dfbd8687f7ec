"""One pass over a file: where its streams end, what fails to decode, thumbnails and sound of a window."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.containers import Clock, Kind, MediaError, Probe, describe, only, opened, pick_stream
from components.ingest.fingerprint import PICTURES, RATE_HZ, THUMB
from components.media import FrameSampler, SoundCollector

Window = tuple[float, float]  # start and end, seconds from the file's start
Choose = Callable[[Probe, dict[Kind, float]], Window | None]  # from what the headers say
_LEAD_S: Final = 1.0  # sound decoded ahead of the window, so that the codec has settled


@dataclass
class Scan:
    """What one pass found."""

    probe: Probe
    lengths_s: dict[Kind, float]  # from the streams' headers
    window_s: Window | None  # what was decoded; None: everything
    ends_s: dict[Kind, float] = field(default_factory=dict)  # from the packets
    packets: int = 0
    failed: int = 0
    failure: str = ""
    turned: bool = False  # shown with width and height exchanged
    thumbs: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, THUMB, THUMB), np.uint8))
    sound: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def usable_s(self) -> float:
        """Length for which every stream lasts."""
        return min(self.ends_s.values(), default=0.0)


def scan(path: Path, choose: Choose, picture: bool) -> Scan:
    """Read all packets of ``path`` once, and decode those that the chosen window needs.

    Every packet is read, so a file that breaks off is found; only the window (None: everything) is
    decoded, since nothing else is ever used. ``choose`` may refuse the file by raising MediaError.

    Raises:
        MediaError: the file cannot be opened, has no sound, or no picture although ``picture``.
    """
    kinds: tuple[Kind, ...] = ("video", "audio") if picture else ("audio",)
    with opened(path) as container:
        streams = {kind: pick_stream(container, kind) for kind in kinds}
        for kind, stream in streams.items():
            if stream is None:
                raise MediaError(f"no_{kind}", f"the file has no {kind} stream")
        probe, lengths = describe(container), {k: _length_s(s) for k, s in streams.items() if _length_s(s)}
        found = Scan(probe, lengths, choose(probe, lengths))
        readers = {s.index: _Reader(kind, container, s, found.window_s) for kind, s in streams.items()}
        only(container, *streams.values())
        for packet in _packets(container, list(streams.values()), found):
            readers[packet.stream.index].read(packet, found)
    for reader in readers.values():
        reader.finish(found)
    return found


def _length_s(stream: Any) -> float:
    """Return the length a stream's header states, 0 where it is silent. Matroska has a tag for it."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    stated = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3]) if stated else 0.0


def _packets(container: Any, streams: list[Any], found: Scan) -> Iterator[Any]:
    import av

    try:
        yield from container.demux(streams)
    except av.error.FFmpegError as error:
        found.failed += 1
        found.failure = str(error.strerror)


class _Reader:
    """Decodes one stream within the window and feeds its frames to the sampler or the collector."""

    def __init__(self, kind: Kind, container: Any, stream: Any, window_s: Window | None) -> None:
        self._kind = kind
        self._clock = Clock(container, stream)
        self._from_s, self._to_s = window_s or (0.0, float("inf"))
        self._waiting: list[Any] = []  # packets since the last key frame before the window
        self._frames = 0
        self._end_s = 0.0
        if kind == "video":
            self._sink: Any = FrameSampler(_thumb_times(self._from_s, self._to_s), (THUMB, THUMB), "gray")
        else:
            self._from_s -= _LEAD_S
            self._sink = SoundCollector(RATE_HZ, *(window_s or (0.0, None)))

    def read(self, packet: Any, found: Scan) -> None:
        """Note where the packet ends, and decode it if the window needs it."""
        ticks = packet.pts if packet.pts is not None else packet.dts
        begin_s = self._clock.at(ticks)
        if begin_s is not None:
            self._end_s = max(self._end_s, begin_s + self._clock.length_s(packet.duration))
        for needed in self._admit(packet):
            self._decode(needed, found)

    def _admit(self, packet: Any) -> list[Any]:
        decode_s = self._clock.at(packet.dts)
        if packet.size and decode_s is not None:
            if decode_s > self._to_s:
                return []
            if decode_s < self._from_s:
                self._waiting = [packet] if packet.is_keyframe else [*self._waiting, packet]
                return []
        ready, self._waiting = [*self._waiting, packet], []
        return ready

    def _decode(self, packet: Any, found: Scan) -> None:
        import av

        found.packets += 1
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if packet.size:
                found.failed += 1
                found.failure = f"{self._kind}: {error.strerror}"
            return
        # A decoder conceals what it cannot read and marks the picture; a spoilt one spoils those that lean on it.
        found.failed += bool(packet.is_corrupt or any(frame.is_corrupt for frame in frames))
        for frame in frames:
            if self._kind == "video" and self._frames == 0:
                found.turned = round(frame.rotation / 90) % 2 == 1
            self._frames += 1
            time_s = self._clock.time(frame)
            self._end_s = max(self._end_s, time_s)
            self._sink.feed(time_s, frame)

    def finish(self, found: Scan) -> None:
        """Record where the stream ended and what was sampled."""
        if not self._frames:
            raise MediaError("unreadable", f"no {self._kind} frame could be decoded ({found.failure or 'no packets'})")
        found.ends_s[self._kind] = self._end_s
        if self._kind == "video":
            found.thumbs = self._sink.finish()
        else:
            found.sound = self._sink.finish()


def _thumb_times(from_s: float, to_s: float) -> list[float]:
    if to_s == float("inf"):
        return [0.0]
    return [from_s + (to_s - from_s) * (k + 0.5) / PICTURES for k in range(PICTURES)]
