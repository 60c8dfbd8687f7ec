"""The sound of clips, decoded ahead, and the windows that cover it."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.containers import MediaError
from components.media import mono
from components.tagging.clips import Clip

Sound = NDArray[np.float32]  # (N,) samples, -1 to 1

_AHEAD = 2  # clips decoded ahead, per worker


def read_sounds(clips: Sequence[Clip], rate_hz: int, workers: int) -> Iterator[tuple[str, Sound | Exception]]:
    """Yield (clip_id, sound or what stopped it) in order; threads decode while the model listens.

    Threads suffice: decoders let go of the interpreter, and `ingest` has decoded each file before
    in a process of its own.
    """
    with ThreadPoolExecutor(workers) as pool:
        todo = iter(clips)
        waiting: deque[tuple[str, Future[Sound | Exception]]] = deque()
        try:
            while True:
                while len(waiting) < _AHEAD * workers and (clip := next(todo, None)) is not None:
                    waiting.append((clip.clip_id, pool.submit(_read, clip, rate_hz)))
                if not waiting:
                    return
                clip_id, sound = waiting.popleft()
                yield clip_id, sound.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def windows(sound: Sound, length: int, hop: int) -> Iterator[Sound]:
    """Yield windows of ``length`` samples, ``hop`` apart, that cover the sound to its end.

    A shorter sound is repeated until it fills a window. Measured on real recordings: the tags of
    8 s so repeated are nearer to those of the whole 29.1 s than with silence behind or around them.
    """
    if len(sound) <= length:
        yield np.resize(sound, length)
        return
    last = len(sound) - length
    for start in [*range(0, last, hop), last]:
        yield sound[start : start + length]


def count_windows(samples: int, length: int, hop: int) -> int:
    """Return how many windows ``windows`` yields."""
    return 1 if samples <= length else -(-(samples - length) // hop) + 1


def _read(clip: Clip, rate_hz: int) -> Sound | Exception:
    try:
        sound = mono(Path(clip.uri), rate_hz, clip.start_s, clip.end_s)
    except (ValueError, OSError) as error:
        return error
    if not len(sound):
        return MediaError("no_audio", f"no sound from {clip.start_s:g} s to {clip.end_s:g} s")
    return sound
