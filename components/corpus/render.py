"""One clip to one file: mp4 (H.264 and AAC) or, for the seed library, m4a (AAC)."""

from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.corpus.music import render_music
from components.corpus.pictures import FPS, HEIGHT, WIDTH, render_frames
from components.corpus.synth import RATE_HZ, Wave
from components.corpus.world import Latents, World, draw_clip, stream
from components.stage import atomic_file

_AUDIO_BITS: Final = 64_000
_X264: Final = {"preset": "ultrafast", "tune": "zerolatency", "crf": "26", "threads": "1", "g": str(FPS)}


def clip_sound(world: World, seed: int, index: int, music: Latents, length_s: float) -> Wave:
    """Return a clip's samples before encoding, (samples,) float32."""
    return render_music(world, music, stream(seed, index, 2), length_s)


def clip_frames(world: World, seed: int, index: int, shown: Latents, length_s: float) -> NDArray[np.uint8]:
    """Return a clip's frames before encoding, (frames, HEIGHT, WIDTH, 3) uint8."""
    return render_frames(world, shown, stream(seed, index, 3), length_s)


def render_video(world: World, seed: int, index: int, length_s: float, path: Path) -> None:
    """Render clip ``index`` of the corpus to an mp4 at ``path``, all of it or nothing."""
    clip = draw_clip(world, seed, index)
    sound = clip_sound(world, seed, index, clip.music, length_s)
    frames = clip_frames(world, seed, index, clip.video, length_s)
    with atomic_file(path) as part:
        _encode(part, sound, frames)


def render_audio(world: World, seed: int, index: int, length_s: float, path: Path) -> None:
    """Render track ``index`` of the seed library to an m4a at ``path``, all of it or nothing."""
    clip = draw_clip(world, seed, index)
    with atomic_file(path) as part:
        _encode(part, clip_sound(world, seed, index, clip.music, length_s), None)


def _encode(path: Path, sound: Wave, frames: NDArray[np.uint8] | None) -> None:
    import av

    # `bitexact` keeps times and versions of the muxer out of the file: equal clips are equal bytes.
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as out:
        picture = out.add_stream("libx264", rate=FPS, options=_X264) if frames is not None else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            picture.codec_context.flags |= av.codec.context.Flags.bitexact
        voice = out.add_stream("aac", rate=RATE_HZ, layout="mono", bit_rate=_AUDIO_BITS, options={"aac_coder": "fast"})
        voice.codec_context.flags |= av.codec.context.Flags.bitexact
        if picture is not None and frames is not None:
            for image in frames:
                out.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(picture.encode(None))
        for start in range(0, len(sound), 1024):
            samples = np.ascontiguousarray(sound[None, start : start + 1024])
            block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
            out.mux(voice.encode(block))
        out.mux(voice.encode(None))
