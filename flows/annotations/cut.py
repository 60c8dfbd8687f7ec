"""Cut a part out of a media file, exactly: a new mp4 (H.264 and AAC) that begins and ends where it should.

Copying packets would begin at a key frame, seconds too early, so picture and sound are encoded again.
"""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.containers import MediaError, opened
from components.media import decoded
from components.stage import atomic_file

RECIPE: Final = "1"  # change it when the same source and times should give another file

_TICKS_HZ: Final = 90_000
_X264: Final = {"preset": "veryfast", "crf": "18", "threads": "1"}
_AUDIO_BITS: Final = 192_000
_AAC_HZ: Final = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_BLOCK: Final = 1024  # samples of an AAC frame


def cut(source: Path, start_s: float, end_s: float, target: Path, label: str) -> None:
    """Write the part of ``source`` between two times to ``target``, all of it or nothing.

    Frame times are kept. Sound has one or two channels, at the source's rate where AAC knows it.

    Args:
        source: any container with picture and sound.
        start_s: seconds from the file's start.
        end_s: seconds; what is missing at the end must be under half a second.
        target: an mp4; its ``comment`` is ``label``.
        label: tells what the file was cut from, see `label_of`.

    Raises:
        MediaError: not media, no picture or no sound in that part, or it ends too early.
    """
    import av

    sound, rate_hz = _sound(source, start_s, end_s)
    frames = _pictures(source, start_s, end_s)
    first = next(frames, None)
    if first is None:
        raise MediaError("outside_media", f"no picture between {start_s:g} and {end_s:g} s")
    with atomic_file(target) as part:
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(part, "w", format="mp4", options=options) as out:
            out.metadata["comment"] = label
            picture = out.add_stream("libx264", rate=25, options=_X264)
            width, height = first[1].width, first[1].height
            picture.width, picture.height, picture.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            picture.codec_context.time_base = Fraction(1, _TICKS_HZ)
            if first[1].rotation:
                picture.set_display_rotation(first[1].rotation)
            voice = out.add_stream("aac", rate=rate_hz, layout="mono" if len(sound) == 1 else "stereo")
            voice.bit_rate = _AUDIO_BITS
            last_s = _encode_pictures(out, picture, first, frames)
            _encode_sound(out, voice, sound, rate_hz)
        covered_s = min(last_s, sound.shape[1] / rate_hz)
        if covered_s < end_s - start_s - 0.5:
            raise MediaError(
                "too_short", f"picture or sound ends {covered_s:.1f} s after {start_s:g} s, {end_s:g} is asked for"
            )


def label_of(path: Path) -> str | None:
    """Return the label of a file that `cut` wrote; None for any other file, or none."""
    with suppress(MediaError), opened(path) as container:
        label = container.metadata.get("comment")
        return None if label is None else str(label)
    return None


def _encode_pictures(out: Any, picture: Any, first: tuple[float, Any], rest: Iterator[tuple[float, Any]]) -> float:
    """Encode frames at their times; return when the last one ends, in seconds."""
    size, turn = (first[1].width, first[1].height), first[1].rotation
    shown, last_s, step_s = -1, 0.0, 0.04
    for time_s, frame in chain([first], rest):
        ticks = round(time_s * _TICKS_HZ)
        if ticks <= shown or (frame.width, frame.height) != size or frame.rotation != turn:
            continue  # a stream that changes its picture's form midway keeps the first form
        step_s, last_s, shown = (time_s - last_s if shown >= 0 else step_s), time_s, ticks
        plain = frame.reformat(picture.width, picture.height, "yuv420p")
        plain.pts, plain.time_base, plain.pict_type = ticks, Fraction(1, _TICKS_HZ), 0
        out.mux(picture.encode(plain))
    out.mux(picture.encode(None))
    return last_s + step_s


def _encode_sound(out: Any, voice: Any, sound: NDArray[np.float32], rate_hz: int) -> None:
    import av

    layout = "mono" if len(sound) == 1 else "stereo"
    for start in range(0, sound.shape[1], _BLOCK):
        samples = np.ascontiguousarray(sound[:, start : start + _BLOCK])
        block = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        block.sample_rate, block.pts, block.time_base = rate_hz, start, Fraction(1, rate_hz)
        out.mux(voice.encode(block))
    out.mux(voice.encode(None))


def _pictures(source: Path, start_s: float, end_s: float) -> Iterator[tuple[float, Any]]:
    """Yield (seconds from ``start_s``, frame) of the part; the frame on screen at its start comes first, at 0."""
    held = None
    for time_s, frame in decoded(source, "video", start_s):
        if time_s >= end_s - 1e-6:
            break
        if time_s <= start_s + 1e-6:
            held = frame
            continue
        if held is not None:
            yield 0.0, held
            held = None
        yield time_s - start_s, frame
    if held is not None:
        yield 0.0, held


def _sound(source: Path, start_s: float, end_s: float) -> tuple[NDArray[np.float32], int]:
    """Return the samples of the part, (channels, N) float32 with one or two channels, and their rate."""
    import av

    resampler, begins_s, rate_hz = None, 0.0, 0
    parts: list[NDArray[np.float32]] = []
    for time_s, frame in decoded(source, "audio", start_s - 1.0):
        if time_s >= end_s:
            break
        if time_s + frame.samples / frame.sample_rate <= start_s - 1.0:
            continue
        if resampler is None:
            begins_s, rate_hz = time_s, frame.sample_rate if frame.sample_rate in _AAC_HZ else 48_000
            resampler = av.AudioResampler("fltp", "mono" if frame.layout.nb_channels == 1 else "stereo", rate_hz)
        parts += [made.to_ndarray().astype(np.float32, copy=False) for made in resampler.resample(frame)]
    if resampler is None:
        raise MediaError("outside_media", f"no sound between {start_s:g} and {end_s:g} s")
    parts += [made.to_ndarray().astype(np.float32, copy=False) for made in resampler.resample(None)]
    sound = np.concatenate(parts, axis=1)
    early = round((start_s - begins_s) * rate_hz)
    sound = sound[:, early:] if early >= 0 else np.pad(sound, ((0, 0), (-early, 0)))
    return sound[:, : round((end_s - start_s) * rate_hz)], rate_hz
