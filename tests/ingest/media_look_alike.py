"""Small real media files: seeded notes and moving blobs, encoded with the codecs people use."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def notes(seed: int, seconds: float, rate_hz: int) -> np.ndarray:
    """Mono float32 (N,): a random chord every quarter of a second."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate_hz)
    clock = np.arange(count) / rate_hz
    sound = np.zeros(count)
    for beat in range(int(seconds * 4) + 1):
        inside = (clock >= beat / 4) & (clock < (beat + 1) / 4)
        for pitch in rng.uniform(150, 3000, 3):
            sound[inside] += 0.2 * np.sin(2 * np.pi * pitch * clock[inside]) * np.exp(-6 * (clock[inside] - beat / 4))
    return sound.astype(np.float32)


def blobs(seed: int, frames: int, size: tuple[int, int]) -> np.ndarray:
    """Frames (T, h, w, 3) uint8: a smooth random picture that slides."""
    width, height = size
    rng = np.random.default_rng(1000 + seed)
    waves = rng.uniform(0.5, 2.5, (3, 2)) * 2 * np.pi
    phase, speed = rng.uniform(0, 6, 3), rng.uniform(-1, 1, 3)
    y, x = np.mgrid[:height, :width]
    pictures = []
    for t in range(frames):
        planes = [
            np.sin(waves[c, 0] * x / width + waves[c, 1] * y / height + phase[c] + speed[c] * t / 10) for c in range(3)
        ]
        pictures.append((127 + 100 * np.stack(planes, -1)).astype(np.uint8))
    return np.stack(pictures)


def write_media(
    path: Path,
    pictures: np.ndarray | None,
    sound: np.ndarray | None,
    *,
    fps: int = 10,
    times: Sequence[int] | None = None,
    rate_hz: int = 16000,
    container: str = "mp4",
    video: str = "libx264",
    pixels: str = "yuv420p",
    crf: int = 18,
    audio: str = "aac",
    bit_rate: int = 96_000,
    rotation: int = 0,
    cover: np.ndarray | None = None,
) -> Path:
    """Encode pictures (T, h, w, 3) and sound (channels, N) or (N,); ``times`` are frame numbers, not all present."""
    with path.open("wb") as handle, av.open(handle, "w", format=container) as out:
        streams = []
        if pictures is not None:
            options = {"crf": str(crf), "preset": "ultrafast"} if video == "libx264" else {}
            picture = out.add_stream(video, rate=fps, options=options)
            picture.height, picture.width, picture.pix_fmt = *pictures.shape[1:3], pixels
            if rotation:
                picture.set_display_rotation(rotation)
            streams.append(picture)
        if sound is not None:
            sound = np.atleast_2d(sound).astype(np.float32)
            layout = {1: "mono", 2: "stereo"}[len(sound)]
            voice = out.add_stream(audio, rate=rate_hz, layout=layout)
            if audio in ("aac", "libopus", "libmp3lame"):
                voice.bit_rate = bit_rate
            streams.append(voice)
        if cover is not None:
            still = out.add_stream("mjpeg", rate=1)
            still.height, still.width, still.pix_fmt = *cover.shape[:2], "yuvj420p"
            still.disposition = av.stream.Disposition.attached_pic
            streams.append(still)
            out.mux(still.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")))
        for index, image in enumerate(pictures if pictures is not None else []):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = (times[index] if times else index), Fraction(1, fps)
            out.mux(picture.encode(frame))
        if sound is not None:
            resampler = av.AudioResampler(
                voice.format, layout, rate_hz, frame_size=voice.codec_context.frame_size or 1024
            )
            whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout=layout)
            whole.sample_rate, whole.pts = rate_hz, 0
            for frame in [*resampler.resample(whole), *resampler.resample(None)]:
                out.mux(voice.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


def write_clip(
    path: Path, seed: int, seconds: float = 3.0, picture: int | None = None, rate_hz: int = 16000, **options: object
) -> Path:
    """Write notes of ``seed`` with blobs of ``picture`` (the same seed unless given)."""
    pictures = blobs(seed if picture is None else picture, round(seconds * 10), (64, 48))
    return write_media(path, pictures, notes(seed, seconds, rate_hz), rate_hz=rate_hz, **options)  # type: ignore[arg-type]
