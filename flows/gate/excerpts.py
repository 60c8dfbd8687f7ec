"""Excerpts of clips for a page: their picture without its sound, and their sound alone, small enough to lie in the page."""

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.gate.report import Example, Examples, Pick

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_S: Final = 15.0
"""Of a longer clip the page holds the beginning."""
_FPS: Final = 12
_WIDEST: Final = 320  # pixels
_RATE_HZ: Final = 44_100
_SOUND_BITS: Final = 96_000
_PICTURE: Final = {"preset": "veryfast", "crf": "30", "threads": "1"}


@dataclass
class Excerpts:
    """Data URIs by clip id; a clip is the same excerpt wherever it is heard or seen, and begins at its `start_s`."""

    pictures: dict[str, str] = field(default_factory=dict)
    sounds: dict[str, str] = field(default_factory=dict)


def excerpts(examples: Examples, root: Path, most_mib: float) -> Excerpts:
    """Return what a page plays: of each example its picture, and the sound of both picks and of the right answer.

    Wins and losses take turns. An example that does not fit whole is left out whole, as is a file that cannot be played.

    Args:
        examples: of a report.
        root: the workspace, where relative paths begin.
        most_mib: MiB that the URIs may take together.
    """
    left, made = most_mib * 2**20, Excerpts()
    if left <= 0:
        return made
    for example in _in_turns(examples):
        picture = _picture(example, root)
        if picture is None:
            continue
        sounds = {
            pick.clip_id: sound
            for pick in heard(example)
            if pick.clip_id not in made.sounds and (sound := _sound(pick, root)) is not None
        }
        size = len(picture) + sum(map(len, sounds.values()))
        if size <= left:
            made.pictures[example.clip_id] = picture
            made.sounds |= sounds
            left -= size
    return made


def heard(example: Example) -> list[Pick]:
    """Return whose sound can be heard with an example's picture: the challenger's pick, the other's, and its own."""
    own = Pick(clip_id=example.clip_id, uri=example.uri, start_s=example.start_s, end_s=example.end_s)
    return [pick for pick in (example.ours_pick, example.theirs_pick, own) if pick is not None]


def _picture(example: Example, root: Path) -> str | None:
    from components.containers import MediaError
    from components.media import decoded, frames_at

    path, start_s, end_s = _part(example.uri, example.start_s, example.end_s, root)
    if path is None:
        return None
    try:
        _, first = next(decoded(path, "video", start_s))
        width, height = first.width, first.height
        if round(first.rotation / 90) % 2:
            width, height = height, width
        scale = min(1.0, _WIDEST / width)
        size = (
            max(2, 2 * round(scale * width / 2)),
            max(2, 2 * round(scale * height / 2)),
        )  # the encoder wants even ones
        times = [start_s + at / _FPS for at in range(max(1, math.floor((end_s - start_s) * _FPS)))]
        return _uri("video/mp4", _encoded_picture(frames_at(path, times, size)))
    except (MediaError, StopIteration):
        return None


def _sound(pick: Pick, root: Path) -> str | None:
    from components.containers import MediaError
    from components.media import mono

    path, start_s, end_s = _part(pick.uri, pick.start_s, pick.end_s, root)
    if path is None:
        return None
    try:
        sound = mono(path, _RATE_HZ, start_s, end_s)
    except MediaError:
        return None
    return _uri("audio/mp4", _encoded_sound(sound)) if len(sound) else None


def _part(uri: str | None, start_s: float | None, end_s: float | None, root: Path) -> tuple[Path | None, float, float]:
    """Return the file and the seconds of a clip; no file where it is not at hand."""
    path = root / uri if uri else None
    start_s = start_s or 0.0
    return (
        path if path is not None and path.is_file() else None,
        start_s,
        min(end_s or math.inf, start_s + LONGEST_S),
    )


def _encoded_picture(frames: "NDArray[np.uint8]") -> bytes:
    """Return frames (T, height, width, 3) RGB as an H.264 mp4."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=_FPS, options=_PICTURE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    return file.getvalue()


def _encoded_sound(sound: "NDArray[np.float32]") -> bytes:
    """Return samples (N,) as an AAC mp4."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream: Any = out.add_stream("aac", rate=_RATE_HZ, layout="mono", bit_rate=_SOUND_BITS)
        for start in range(0, len(sound), 1024):
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound[None, start : start + 1024]), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts, block.time_base = _RATE_HZ, start, Fraction(1, _RATE_HZ)
            out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    return file.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _in_turns(examples: Examples) -> Iterator[Example]:
    for at in range(max(len(examples.wins), len(examples.losses))):
        yield from examples.wins[at : at + 1]
        yield from examples.losses[at : at + 1]
