"""Sound of a clip's segments, at the rate that a model takes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.containers import MediaError
from components.features.segments import segment_starts
from components.features.source import Source
from components.media import mono


@dataclass(frozen=True)
class SoundReader:
    """Reads S segments of N samples each; see ``Reader``."""

    segment_s: float
    max_segments: int
    rate_hz: int
    decodes: bool = True

    def __call__(self, source: Source) -> NDArray[np.float32]:
        """Return (S, N) samples in [-1, 1]; a clip shorter than a segment is repeated until it fills one.

        Raises:
            MediaError: the sound cannot be decoded, or there is none where the clip is.
        """
        sound = mono(Path(source.uri), self.rate_hz, source.start_s, source.end_s)
        if not len(sound):
            raise MediaError("no_audio", f"no sound from {source.start_s:g} s to {source.end_s:g} s")
        duration_s, length = source.end_s - source.start_s, round(self.segment_s * self.rate_hz)
        # Sound may end a few samples before the clip does.
        sound = np.pad(sound, (0, max(0, round(duration_s * self.rate_hz) - len(sound))))
        if len(sound) < length:
            return np.resize(sound, length)[None]
        starts = segment_starts(duration_s, self.segment_s, self.max_segments)
        firsts = [min(round(start * self.rate_hz), len(sound) - length) for start in starts]
        return np.stack([sound[first : first + length] for first in firsts])
