"""Frames at one a second, and sound as one channel at 16 kHz, against decoding alone.

Prediction: a decoder has to go through every frame, and everything after it should be small beside it. Goals: frames
at 0.93 of the speed of a PyAV loop that decodes and does nothing, sound at 0.80 of such a loop over AAC. Both with one
thread, since features are made by one process per core: so the goal is by CPU time, wall clock stands beside it.

The files are rendered here: a picture of 640 x 360 at 25 frames a second (H.264), stereo sound at 44.1 and 48 kHz
(AAC in mp4). `--folder` measures files of your own as well. Run `python -m benchmarks.decode`.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.side_by_side import in_turns, ratios
from components.containers import MediaError, probe
from components.media import frames_at, mono

GOALS = {"frames_at": 0.93, "mono": 0.80}
RATE_HZ = 16000
SIZE = (224, 224)


def render_sound(path: Path, seconds: int, rate_hz: int) -> Path:
    """Write chords with beats over noise, in stereo."""
    rng = np.random.default_rng(rate_hz)
    clock = np.arange(seconds * rate_hz) / rate_hz
    chord = sum(0.08 * np.sin(2 * np.pi * hz * clock) for hz in (110, 220, 331, 443, 880, 1760, 3520))
    noise = 0.05 * rng.standard_normal((2, len(clock)))
    sound = (chord * (0.4 + 0.6 * np.exp(-4 * (clock % 0.5))) + noise).clip(-1, 1).astype(np.float32)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("aac", rate=rate_hz, layout="stereo")
        stream.bit_rate = 128_000
        whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout="stereo")
        whole.sample_rate, whole.pts = rate_hz, 0
        cutter = av.AudioResampler("fltp", "stereo", rate_hz, frame_size=1024)
        for frame in [*cutter.resample(whole), *cutter.resample(None), None]:
            out.mux(stream.encode(frame))
    return path


def render_picture(path: Path, seconds: int) -> Path:
    """Write a texture that slides, with a little noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:400, :1400]
    wall = (127 + 60 * np.sin(x / 23) * np.cos(y / 17) + rng.integers(-25, 25, x.shape))[..., None] + [0, 15, -15]
    wall = wall.clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for at in range(seconds * 25):
            left, top = round(380 + 370 * np.sin(at / 90)), round(20 + 19 * np.sin(at / 31))
            picture = np.ascontiguousarray(wall[top : top + 360, left : left + 640])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def decode_only(path: Path, kind: str) -> None:
    """Decode one stream with one thread and do nothing with it."""
    with av.open(str(path)) as container:
        stream = (container.streams.video if kind == "video" else container.streams.audio)[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def every_frame_as_array(path: Path, times_s: list[float]) -> list[np.ndarray]:
    """Return a frame a second by the usual recipe: make an array of each frame, keep some."""
    kept: list[np.ndarray] = []
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            image = frame.reformat(*SIZE, "rgb24").to_ndarray()
            if len(kept) < len(times_s) and frame.time >= times_s[len(kept)]:
                kept.append(image)
    return kept


def resampled_frame_by_frame(path: Path) -> np.ndarray:
    """Return the sound by the usual recipe: each decoded frame through PyAV's resampler."""
    resampler = av.AudioResampler("flt", "mono", RATE_HZ)
    with av.open(str(path)) as container:
        parts = [done.to_ndarray()[0] for frame in container.decode(audio=0) for done in resampler.resample(frame)]
    return np.concatenate([*parts, *(done.to_ndarray()[0] for done in resampler.resample(None))])


def by_librosa(path: Path) -> Callable[[], Any] | str:
    """Return librosa's loader, or why it does not run here."""
    try:
        import librosa
    except ModuleNotFoundError:
        return "not installed (pip install librosa==0.11.0)"

    def load() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return librosa.load(path, sr=RATE_HZ, mono=True)

    try:
        load()
    except Exception as error:  # whatever its backends raise: it is a peer, not a part
        return f"cannot read mp4 here ({type(error).__name__}; it calls the ffmpeg program)"
    return load


def measure(path: Path, kind: str, rounds: int) -> bool:
    """Measure one stream of one file."""
    found = probe(path)
    print(
        f"{path.name}: {kind}, {found.duration_s:.0f} s, {found.video_codec if kind == 'video' else found.audio_codec}"
    )
    methods: dict[str, Callable[[], Any]] = {"decode only": lambda: decode_only(path, kind)}
    if kind == "video":
        times_s = np.arange(0.5, found.duration_s or 1.0).tolist()
        methods["frames_at"] = lambda: frames_at(path, times_s, SIZE)
        methods["array of every frame"] = lambda: every_frame_as_array(path, times_s)
    else:
        methods["mono"] = lambda: mono(path, RATE_HZ)
        methods["PyAV, frame by frame"] = lambda: resampled_frame_by_frame(path)
        peer = by_librosa(path)
        if isinstance(peer, str):
            print(f"  librosa.load: not run, {peer}")
        else:
            methods["librosa.load"] = peer
    return ratios(in_turns(methods, rounds), GOALS)


def main() -> None:
    """Render, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="of each file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="media files to measure as well")
    parser.add_argument("--quick", action="store_true", help="60 s of sound, 20 s of picture, 5 rounds")
    args = parser.parse_args()
    rounds = 5 if args.quick else args.rounds
    reached = True
    with tempfile.TemporaryDirectory() as root:
        for rate_hz in (44100, 48000):
            path = render_sound(Path(root) / f"sound-{rate_hz}.mp4", 60 if args.quick else args.seconds, rate_hz)
            reached &= measure(path, "audio", rounds)
        path = render_picture(Path(root) / "picture.mp4", 20 if args.quick else args.seconds)
        reached &= measure(path, "video", min(rounds, 7))
    for path in sorted(args.folder.rglob("*")) if args.folder else []:
        try:
            found = probe(path)
        except MediaError:
            continue
        for kind, codec in (("audio", found.audio_codec), ("video", found.video_codec)):
            if codec:
                measure(path, kind, min(rounds, 7))
    print(f"load of the machine while measuring: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
