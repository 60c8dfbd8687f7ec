"""Small real media files, and the shipped section with one process."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from components.features.params import EmbeddedParams, FeaturesParams
from components.settings import read_section

RATE_HZ = 16000
FPS = 10

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def section() -> EmbeddedParams:
    return read_section(FeaturesParams, "features").model_copy(update={"workers": 1})


@pytest.fixture(scope="session")
def write_media(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Return a function that writes an mp4 of frames (T, h, w, 3) at 10 fps and mono sound at 16 kHz."""
    folder = tmp_path_factory.mktemp("media")

    def write(name: str, frames: np.ndarray | None, sound: np.ndarray | None) -> Path:
        path = folder / name
        with av.open(path, "w", format="mp4") as out:
            picture = voice = None
            if frames is not None:
                picture = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "10"})
                picture.height, picture.width, picture.pix_fmt = *frames.shape[1:3], "yuv420p"
            if sound is not None:
                voice = out.add_stream("aac", rate=RATE_HZ, layout="mono", bit_rate=96_000)
            if picture is not None:
                for image in frames:
                    out.mux(picture.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
                out.mux(picture.encode(None))
            if voice is not None:
                for start in range(0, len(sound), 1024):
                    piece = np.ascontiguousarray(sound[None, start : start + 1024], np.float32)
                    block = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                    block.sample_rate, block.pts, block.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
                    out.mux(voice.encode(block))
                out.mux(voice.encode(None))
        return path

    return write


@pytest.fixture(scope="session")
def clips(write_media: Write) -> list[Path]:
    """Six clips of 2 s: a square moves over a colour, a tone beats."""
    paths = []
    for number in range(6):
        rng = np.random.default_rng(number)
        frames = np.empty((20, 48, 64, 3), np.uint8)
        frames[:] = rng.integers(0, 255, 3)
        for at in range(20):
            frames[at, 10:20, 2 * at : 2 * at + 10] = 255 - frames[at, 0, 0]
        time_s = np.arange(2 * RATE_HZ) / RATE_HZ
        sound = 0.3 * np.sin(2 * np.pi * (220 + 55 * number) * time_s) * (time_s * 2 % 1 < 0.3)
        paths.append(write_media(f"clip {number}.mp4", frames, sound))
    return paths
