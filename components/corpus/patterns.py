"""How each genre is played: drums, bass, chord order, swing and room, as tables."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Arrangement:
    """One genre's pattern; rhythms are sixteen steps of a bar, ``x`` loud, ``o`` soft, ``.`` rest."""

    drums: dict[str, str]
    drum_gain: float
    bass: str  # kind of bass_note
    bass_steps: str
    bass_gain: float
    degrees: tuple[int, ...]  # scale degree of the chord, per half bar
    chord_steps: str  # where held chords are struck anew within half a bar (eight steps)
    texture: str  # the drum whose level and density follow `grain`
    swing: float  # share of a step by which every second step is late
    room_s: float  # reverberation time
    wet: float  # reverberation level
    drive: float  # saturation of the whole mix
    low_pass_hz: float
    crackle: float  # vinyl noise


ARRANGEMENTS: Final[dict[str, Arrangement]] = {
    "ambient": Arrangement(
        drums={"heart": "x...x...x...x..."}, drum_gain=1.6, bass="sub", bass_steps="x...............", bass_gain=0.5,
        degrees=(0, 0, 3, 3, 4, 4, 3, 3), chord_steps="x.......", texture="shaker",
        swing=0.0, room_s=1.8, wet=0.8, drive=0.0, low_pass_hz=5200, crackle=0.0,
    ),
    "classical": Arrangement(
        drums={"tom": "x...............", "heart": "x...x...x...x..."}, drum_gain=0.5, bass="round", bass_steps="x...x...x...x...", bass_gain=0.45,
        degrees=(0, 3, 4, 0, 5, 3, 4, 0), chord_steps="x...x...", texture="brush",
        swing=0.0, room_s=1.6, wet=0.6, drive=0.0, low_pass_hz=9500, crackle=0.0,
    ),
    "folk": Arrangement(
        drums={"shaker": "..x...x...x...x.", "heart": "x...x...x...x..."}, drum_gain=0.7, bass="round",
        bass_steps="x.......x.......", bass_gain=0.6,
        degrees=(0, 3, 0, 4, 0, 3, 4, 4), chord_steps="x..xx.x.", texture="shaker",
        swing=0.1, room_s=0.3, wet=0.2, drive=0.0, low_pass_hz=9500, crackle=0.0,
    ),
    "hip hop": Arrangement(
        drums={"kick": "x...o..ox.x.o...", "snare": "....x.......x..."}, drum_gain=1.0, bass="sub",
        bass_steps="x..x......x.....", bass_gain=1.1,
        degrees=(0, 0, 3, 3, 0, 0, 4, 3), chord_steps="x.......", texture="hat",
        swing=0.28, room_s=0.25, wet=0.15, drive=0.3, low_pass_hz=4200, crackle=0.03,
    ),
    "jazz": Arrangement(
        drums={"ride": "x...x..ox...x..o", "brush": "....x.......x...", "heart": "x...x...x...x..."}, drum_gain=0.7, bass="round",
        bass_steps="x...x...x...x..o", bass_gain=0.9,
        degrees=(1, 4, 0, 5, 1, 4, 0, 0), chord_steps="..x..x..", texture="ride",
        swing=0.33, room_s=0.5, wet=0.25, drive=0.0, low_pass_hz=9500, crackle=0.0,
    ),
    "rock": Arrangement(
        drums={"kick": "x...o.x.x.x.o...", "snare": "....x.......x..."}, drum_gain=1.3, bass="saw",
        bass_steps="x.x.x.x.x.x.x.x.", bass_gain=0.7,
        degrees=(0, 0, 4, 3, 0, 0, 5, 4), chord_steps="x.x.x.x.", texture="hat",
        swing=0.0, room_s=0.4, wet=0.2, drive=1.0, low_pass_hz=9500, crackle=0.0,
    ),
    "synthwave": Arrangement(
        drums={"kick": "x...x...x...x...", "clap": "....x.......x...", "tom": "..............xx"}, drum_gain=1.0, bass="saw",
        bass_steps="xxxxxxxxxxxxxxxx", bass_gain=0.8,
        degrees=(0, 0, 5, 5, 3, 3, 4, 4), chord_steps="x.......", texture="shaker",
        swing=0.0, room_s=1.0, wet=0.5, drive=0.2, low_pass_hz=8000, crackle=0.0,
    ),
    "techno": Arrangement(
        drums={"kick": "x...x...x...x...", "clap": "............x..o"}, drum_gain=1.6, bass="saw",
        bass_steps="..x...x...x...x.", bass_gain=0.7,
        degrees=(0, 0, 0, 0, 0, 0, 1, 0), chord_steps="..x..x..", texture="hat",
        swing=0.0, room_s=0.5, wet=0.3, drive=0.6, low_pass_hz=9500, crackle=0.0,
    ),
}  # fmt: skip


def spread(hits: int, steps: int = 16) -> list[int]:
    """Place ``hits`` as evenly as can be on ``steps`` (a Euclidean rhythm); the first is on the beat."""
    return sorted({(hit * steps) // hits for hit in range(hits)})
