"""From a track's factors to sound: notes placed on a grid, mixed, shaped, put in a room.

``light`` tilts the spectrum; ``grain`` trades bass for a denser, finer surface. Loudness is levelled,
so it tells nothing.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.corpus.patterns import ARRANGEMENTS, Arrangement, spread
from components.corpus.synth import RATE_HZ, VOICES, Wave, bass_note, drum, note
from components.corpus.world import Latents, Mood, World, bpm

LEVEL: Final = 0.12  # root mean square of every part and of the whole
TILT_DB_PER_OCTAVE: Final = 3.2  # per standard deviation of `light`
GRAIN_DB: Final = 5.0  # bass down and surface up, per standard deviation of `grain`
BASS: Final = 0.5  # level of the bass against the band
SURFACE: Final = 0.12  # level of the fine surface
SWAY: Final = 0.8  # how far everything sinks from beat to beat
ENTRY: Final = 4  # sixteenths after which the drums come in
FADE: Final = int(0.03 * RATE_HZ)


class Track:
    """A mono buffer that notes are added to."""

    def __init__(self, length_s: float) -> None:
        """Start with silence."""
        self.wave = np.zeros(int(length_s * RATE_HZ), np.float32)

    def add(self, sound: Wave, at_s: float, length_s: float, gain: float) -> None:
        """Add ``sound`` from ``at_s`` on, cut to ``length_s`` with a short fade."""
        start = int(at_s * RATE_HZ)
        count = min(len(sound), int(length_s * RATE_HZ), len(self.wave) - start)
        if count <= FADE:
            return
        piece = sound[:count] * np.float32(gain)
        piece[-FADE:] *= _fade()
        self.wave[start : start + count] += piece


def render_music(world: World, music: Latents, rng: np.random.Generator, length_s: float) -> Wave:
    """Play ``music`` for ``length_s`` seconds; returns (samples,) float32 in [-1, 1] at RATE_HZ."""
    genre, mood = list(world.genres)[music.genre], list(world.moods.values())[music.mood]
    plan = ARRANGEMENTS[genre]
    light, grain = (float(np.clip(z, -2.5, 2.5)) for z in music.nuance)
    step_s = 60 / bpm(world, music.tempo) / 4
    grid = _grid(plan, step_s, length_s)
    lift = 10 ** (GRAIN_DB * grain / 20)
    hits = _hits(grain)
    mixed = _drums(plan, grid, length_s) * np.float32(plan.drum_gain)
    names = list(world.instruments)
    for instrument in (names[value] for value in music.instruments):
        part = _part(instrument, plan, mood, grid, step_s, hits, rng, length_s)
        mixed += _levelled(part) * np.float32(VOICES[instrument].gain)
    mixed = _levelled(_shape(mixed, plan, light, rng))
    mixed += _levelled(_bass(plan, mood, grid, step_s, length_s)) * np.float32(BASS * plan.bass_gain / lift)
    mixed += _levelled(_surface(plan, grid, hits, length_s)) * np.float32(SURFACE * lift)
    mixed *= _sway(len(mixed), step_s * 4)
    return np.asarray(np.tanh(_levelled(mixed)), np.float32)


def require_playable(world: World) -> None:
    """Check that every genre and instrument of ``world`` is known here.

    Raises:
        ValueError: one is not; it is named.
    """
    for key, names, known in (("genres", world.genres, ARRANGEMENTS), ("instruments", world.instruments, VOICES)):
        for name in names:
            if name not in known:
                raise ValueError(f"world: {key}.{name}: nothing plays it; choose from {', '.join(sorted(known))}")


def _levelled(wave: Wave) -> Wave:
    """Bring a part to the common loudness, so that density and register do not hide an instrument."""
    return np.asarray(wave * np.float32(LEVEL / (np.sqrt(np.mean(wave**2)) + 1e-9)), np.float32)


def _hits(grain: float) -> int:
    return int(np.clip(round(7 * 2 ** (0.7 * grain)), 2, 16))


def _grid(plan: Arrangement, step_s: float, length_s: float) -> NDArray[np.float64]:
    steps = np.arange(int(np.ceil(length_s / step_s)))
    return np.asarray((steps + plan.swing * (steps % 2)) * step_s)


def _drums(plan: Arrangement, grid: NDArray[np.float64], length_s: float) -> Wave:
    track = Track(length_s)
    for step, at_s in enumerate(grid):
        for kind, steps in plan.drums.items():
            mark = steps[step % 16]
            if mark != "." and step >= ENTRY:
                track.add(drum(kind), at_s, 1.0, 0.5 if mark == "x" else 0.22)
    return track.wave


def _surface(plan: Arrangement, grid: NDArray[np.float64], hits: int, length_s: float) -> Wave:
    track = Track(length_s)
    for step, at_s in enumerate(grid):
        if step % 16 in spread(hits):
            track.add(drum(plan.texture), at_s, 1.0, 1.0)
    return track.wave


def _bass(plan: Arrangement, mood: Mood, grid: NDArray[np.float64], step_s: float, length_s: float) -> Wave:
    track, lengths = Track(length_s), _until_next(plan.bass_steps)
    for step, at_s in enumerate(grid):
        if plan.bass_steps[step % 16] != ".":
            midi = 36 + (mood.root + _pitch(mood, plan.degrees[step // 8 % len(plan.degrees)])) % 12
            track.add(bass_note(plan.bass, midi), at_s, lengths[step % 16] * step_s * 0.95, 1.0)
    return track.wave


def _part(
    instrument: str, plan: Arrangement, mood: Mood, grid: NDArray[np.float64], step_s: float, hits: int,
    rng: np.random.Generator, length_s: float,
) -> Wave:  # fmt: skip
    """Play one instrument: held chords, an arpeggio, or a melody that wanders through the scale."""
    track, voice = Track(length_s), VOICES[instrument]
    centre = voice.octave + mood.shift
    line = int(rng.integers(len(mood.scale)))  # where a melody stands in the scale
    struck = spread(hits if voice.part == "arpeggio" else max(2, hits // 2))
    for step, at_s in enumerate(grid):
        degree = plan.degrees[step // 8 % len(plan.degrees)]
        if voice.part == "chords":
            if plan.chord_steps[step % 8] == ".":
                continue
            held_s = _until_next(plan.chord_steps)[step % 8] * step_s
            for third in (0, 2, 4):
                midi = _near(centre, mood.root + _pitch(mood, degree + third))
                track.add(note(instrument, midi), at_s, held_s, 1.0)
        elif step % 16 not in struck:
            continue
        elif voice.part == "arpeggio":
            third = (0, 2, 4, 2)[step % 4] if step % 8 else 0
            midi = _near(centre, mood.root + _pitch(mood, degree + third))
            track.add(note(instrument, midi), at_s, 6 * step_s, 1.0)
        else:
            line = int(np.clip(line + rng.integers(-2, 3), -3, 6))
            midi = _near(centre, mood.root) + _pitch(mood, line)
            track.add(note(instrument, midi), at_s, 16 / max(2, hits // 2) * step_s, 1.0)
    return track.wave


def _pitch(mood: Mood, degree: int) -> int:
    octave, place = divmod(degree, len(mood.scale))
    return 12 * octave + mood.scale[place]


def _near(centre: int, pitch: int) -> int:
    """Return the pitch of the same class within six semitones of ``centre``."""
    return centre + (pitch - centre + 6) % 12 - 6


@lru_cache(maxsize=64)
def _until_next(steps: str) -> tuple[int, ...]:
    """Return, per step, how many steps a note struck there lasts until the next one."""
    twice = steps + steps
    return tuple(
        next((k for k in range(1, len(steps) + 1) if twice[i + k : i + k + 1] not in (".", "")), len(steps))
        for i in range(len(steps))
    )


@lru_cache(maxsize=1)
def _fade() -> Wave:
    return np.linspace(1, 0, FADE, dtype=np.float32)


def _sway(count: int, beat_s: float) -> Wave:
    """Return a gain that sinks from beat to beat, so that every genre has a pulse one can follow."""
    phase = np.arange(count, dtype=np.float32) / np.float32(RATE_HZ * beat_s) % 1
    return 1 - np.float32(SWAY) * phase


@lru_cache(maxsize=16)
def _room(room_s: float, wet: float, size: int) -> NDArray[np.complex64]:
    """Spectrum of a room: the direct sound and a decaying, darkening noise tail."""
    count = int(room_s * RATE_HZ)
    tail = np.random.default_rng([31, count]).standard_normal(count) * np.exp(-6.9 * np.arange(count) / count)
    tail = np.convolve(tail, np.ones(3) / 3, mode="same")
    answer = np.zeros(size, np.float32)
    answer[:count] = wet * tail / (np.sqrt(np.sum(tail**2)) + 1e-9)
    answer[0] += 1
    return np.asarray(np.fft.rfft(answer), np.complex64)


@lru_cache(maxsize=4)
def _octaves(size: int) -> NDArray[np.float32]:
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / RATE_HZ), 60)
    return np.asarray(np.log2(frequency / 700), np.float32)


def _shape(mixed: Wave, plan: Arrangement, light: float, rng: np.random.Generator) -> Wave:
    """Saturate, add wear, tilt the spectrum by ``light``, and put the band in its room."""
    mixed = np.asarray(_levelled(mixed) * np.float32(2.5), np.float32)
    if plan.drive:
        mixed = np.tanh(mixed * np.float32(1 + 2 * plan.drive))
    if plan.crackle:
        pops = (rng.random(len(mixed), np.float32) < 12 / RATE_HZ) * rng.uniform(-6, 6, len(mixed))
        hiss = 0.06 * rng.standard_normal(len(mixed), np.float32)
        mixed = np.asarray(mixed + np.float32(plan.crackle) * (pops.astype(np.float32) + hiss), np.float32)
    size = 1 << int(np.ceil(np.log2(len(mixed) + plan.room_s * RATE_HZ)))
    octaves = _octaves(size)
    gain_db = TILT_DB_PER_OCTAVE * light * octaves - 12 * np.maximum(
        0, octaves - np.float32(np.log2(plan.low_pass_hz / 700))
    )
    spectrum = np.fft.rfft(mixed, size) * _room(plan.room_s, plan.wet, size) * 10 ** (gain_db / 20)
    return np.asarray(np.fft.irfft(spectrum, size)[: len(mixed)], np.float32)
