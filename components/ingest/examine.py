"""Judge one file: usable, with its window and fingerprints, or refused with a reason."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from components.containers import Kind, MediaError, Probe
from components.ingest.fingerprint import sound_print
from components.ingest.params import Limits
from components.ingest.rows import shown
from components.ingest.scan import Scan, Window, scan

_SHIFT_S: Final = 0.1  # a window that moves by less than this is not decoded again
_TOP_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"sidx", b"styp", b"uuid", b"udta")


@dataclass(frozen=True)
class Finding:
    """What is known of one file; ``reason`` is empty when it is usable."""

    reason: str = ""
    detail: str = ""
    sha256: str = ""
    size: int = 0  # bytes
    container: str | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float = 0.0
    fps: float | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    start_s: float = 0.0
    end_s: float = 0.0
    sound: bytes = b""  # sound_print, int8
    picture: bytes = b""  # thumbnails, uint8


def examine(path: Path, limits: Limits, picture: bool) -> Finding:
    """Hash, probe and decode one file. ``picture`` False: sound is enough (the seed library).

    The reasons: unreadable, empty_file, not_media, truncated, no_video, no_audio, too_long, corrupt,
    too_short, silent, black.
    """
    sha256, size = "", 0
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise MediaError("unreadable", "no such file" if not path.exists() else "not a regular file")
        with path.open("rb") as handle:
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
            size = handle.tell()
        return _finding(path, limits, picture, sha256, size)
    except MediaError as error:
        if size and error.reason in ("not_media", "unreadable") and (missing := _cut_box(path, size)):
            return Finding("truncated", f"the file ends {missing} bytes too early", sha256, size)
        return Finding(error.reason, error.detail, sha256, size)
    except MemoryError:
        return Finding("unreadable", "decoding needs more memory than the limit", sha256, size)
    except Exception as error:  # whatever a decoder raises on a strange file concerns this file alone
        return Finding("unreadable", f"{type(error).__name__}: {shown(str(error))}", sha256, size)


def _finding(path: Path, limits: Limits, picture: bool, sha256: str, size: int) -> Finding:
    def window_of_header(probe: Probe, lengths_s: dict[Kind, float]) -> Window | None:
        if probe.duration_s and probe.duration_s > limits.max_s:
            raise MediaError("too_long", f"{probe.duration_s:.1f} s, the limit is {limits.max_s:g} s")
        stated_s = [*lengths_s.values(), *([probe.duration_s] if probe.duration_s else [])]
        return middle(min(stated_s), limits.clip_s) if stated_s else None

    found = scan(path, window_of_header, picture)
    _check_whole(found, limits)
    window_s = middle(found.usable_s, limits.clip_s)
    if found.window_s is None or max(abs(a - b) for a, b in zip(window_s, found.window_s, strict=True)) > _SHIFT_S:
        found = scan(path, lambda _probe, _lengths: window_s, picture)  # the headers were wrong or silent
    _check_content(found, limits, picture)
    probe = found.probe
    width, height = (probe.height, probe.width) if found.turned else (probe.width, probe.height)
    return Finding(
        sha256=sha256,
        size=size,
        container=probe.container,
        video_codec=probe.video_codec,
        audio_codec=probe.audio_codec,
        width=width,
        height=height,
        duration_s=round(max(probe.duration_s or 0.0, window_s[1]), 3),
        fps=None if probe.fps is None else round(probe.fps, 3),
        sample_rate_hz=probe.sample_rate_hz,
        channels=probe.channels,
        start_s=window_s[0],
        end_s=window_s[1],
        sound=sound_print(found.sound).tobytes(),
        picture=found.thumbs.tobytes(),
    )


def middle(length_s: float, clip_s: float) -> Window:
    """Return the middle ``clip_s`` seconds of a file, or all of it, on whole milliseconds.

    >>> middle(60.0, 10.0), middle(4.0005, 10.0)
    ((25.0, 35.0), (0.0, 4.0))
    """
    if length_s <= clip_s:
        return 0.0, math.floor(length_s * 1000) / 1000
    start_s = math.floor((length_s - clip_s) / 2 * 1000) / 1000
    return start_s, round(start_s + clip_s, 3)


def _check_whole(found: Scan, limits: Limits) -> None:
    """Refuse what breaks off, fails to decode, or has the wrong length."""
    ends_s = [("file", found.probe.duration_s or 0.0, max(found.ends_s.values()))]
    ends_s += [(f"{kind} stream", stated_s, found.ends_s[kind]) for kind, stated_s in found.lengths_s.items()]
    for what, stated_s, end_s in ends_s:
        if stated_s - end_s > max(limits.missing_s, limits.missing_share * stated_s):
            raise MediaError("truncated", f"the {what} ends at {end_s:.1f} s of {stated_s:.1f} s")
    if found.failed > limits.errors_share * found.packets:
        raise MediaError(
            "corrupt", f"{found.failed} of {found.packets} packets fail ({found.failure or 'marked corrupt'})"
        )
    if max(found.ends_s.values()) > limits.max_s:
        raise MediaError("too_long", f"{max(found.ends_s.values()):.1f} s, the limit is {limits.max_s:g} s")
    if found.usable_s < limits.min_s:
        raise MediaError(
            "too_short", f"{found.usable_s:.2f} s of picture with sound, at least {limits.min_s:g} s are needed"
        )


def _check_content(found: Scan, limits: Limits, picture: bool) -> None:
    """Refuse what has nothing to hear or to see."""
    peak = float(np.abs(found.sound).max(initial=0.0))
    peak_dbfs = 20 * math.log10(max(peak, 1e-7))
    if peak_dbfs < limits.silence_dbfs:
        raise MediaError("silent", f"loudest sample {peak_dbfs:.0f} dBFS, under {limits.silence_dbfs:g} dBFS")
    if not picture:
        return
    luma, deviation = float(found.thumbs.mean()), float(found.thumbs.std())
    if luma < limits.black_luma and deviation < limits.black_deviation:
        raise MediaError("black", f"mean luma {luma:.1f}, deviation {deviation:.1f} of 255")


def _cut_box(path: Path, size: int) -> int:
    """Return how many bytes an MP4's last top-level box lacks; 0 for whole files and other formats."""
    position = 0
    with path.open("rb") as handle:
        while position + 8 <= size:
            handle.seek(position)
            head = handle.read(16)
            length, kind = int.from_bytes(head[:4]), head[4:8]
            if kind not in _TOP_BOXES or (position == 0 and kind != b"ftyp"):
                return 0
            if length == 1:
                length = int.from_bytes(head[8:16])
            elif length == 0:  # to the end of the file
                return 0
            if length < 8:
                return 0
            position += length
    return max(0, position - size)
