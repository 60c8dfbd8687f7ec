"""Compact fingerprints of sound and picture that survive re-encoding, and their comparison.

The sound's is that of Haitsma and Kalker (ISMIR 2002): the sign of the difference, over bands and
over time, of the energy in overlapping frames. Here a third value, 0, stands where the difference is
too small to have a trustworthy sign (silence, held tones), so such places say nothing.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE_HZ: Final = 8000
_HOP: Final = 500  # 16 frames a second
_FRAME: Final = 4096  # half a second: neighbours overlap by 88 %, so small shifts cost little
_EDGES_HZ: Final = np.geomspace(150.0, 3400.0, 34)  # 33 bands give 32 signs a frame
BANDS: Final = len(_EDGES_HZ) - 2
_FLAT_DB: Final = 0.5  # smaller differences have no trustworthy sign
_FLOOR_DB: Final = -70.0  # energy below this, against a full-scale sine, is silence

PICTURES: Final = 8  # thumbnails a clip
THUMB: Final = 16  # pixels a side


def sound_print(sound: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return the fingerprint of mono sound at `RATE_HZ`: (frames, BANDS) of -1, 0, 1."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, (0, max(0, _FRAME - len(sound)))), _FRAME)[::_HOP]
    window = np.hanning(_FRAME).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2  # (frames, bins)
    bins = np.round(_EDGES_HZ * _FRAME / RATE_HZ).astype(int)
    energy = np.add.reduceat(power[:, : bins[-1]], bins[:-1], axis=1) / (window.sum() / 2) ** 2
    level_db = 10 * np.log10(energy + 10 ** (_FLOOR_DB / 10))
    slope = np.diff(np.diff(level_db, axis=1), axis=0)
    signs: NDArray[np.int8] = np.where(np.abs(slope) < _FLAT_DB, 0, np.sign(slope)).astype(np.int8)
    return signs


def picture_print(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return thumbnails (PICTURES, THUMB, THUMB) as one vector of zero mean and length 1 (or 0)."""
    vector = thumbs.astype(np.float32).ravel()
    vector -= vector.mean()
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-3 else np.zeros_like(vector)
