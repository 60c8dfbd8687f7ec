"""Instruments: one note at a time, by additive, FM, plucked-string and noise synthesis.

Notes are made once per process and pitch and cut to length by the player, so a clip costs little.
Every note is a pure function of (instrument, pitch): no random state is shared between clips.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE_HZ: Final = 22_050
LONGEST_S: Final = 2.0  # of a sustained note
STRUCK_S: Final = 1.4  # of a struck or plucked one

Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Voice:
    """How an instrument is used: its part, the octave it lives in, and how loud it stands."""

    part: str  # chords (held), arpeggio (struck, follows note density), melody (a line)
    octave: int  # MIDI number of its C
    gain: float
    note: Callable[[float], NDArray[np.float64]]


def hz(midi: float) -> float:
    """Frequency of a MIDI pitch in equal temperament."""
    return float(440.0 * 2 ** ((midi - 69) / 12))


def _time(length_s: float) -> NDArray[np.float64]:
    return np.arange(int(length_s * RATE_HZ)) / RATE_HZ


def _partials(
    f: float,
    weights: list[float],
    t: NDArray[np.float64],
    stretch: float = 0.0,
    bend: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Add up harmonics of ``f``; ``stretch`` makes them inharmonic, ``bend`` is time shifted by a vibrato."""
    wave = np.zeros_like(t)
    at = t if bend is None else bend
    for k, weight in enumerate(weights, start=1):
        partial = f * k * np.sqrt(1 + stretch * k * k)
        if weight and partial < RATE_HZ * 0.45:
            wave += weight * np.sin(2 * np.pi * partial * at + 0.7 * k)
    return wave


def _vibrato(t: NDArray[np.float64], rate_hz: float, depth: float) -> NDArray[np.float64]:
    """Return time bent so that a pitch swings by ``depth`` (a share of the frequency) each way."""
    return t + depth / (2 * np.pi * rate_hz) * np.sin(2 * np.pi * rate_hz * t)


def _swell(t: NDArray[np.float64], attack_s: float) -> NDArray[np.float64]:
    return np.minimum(1.0, t / attack_s)


def _noise(count: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng([seed, count]).standard_normal(count)


def _piano(f: float) -> NDArray[np.float64]:
    t = _time(STRUCK_S)
    high = _partials(f, [0, 0, 0.35, 0.25, 0.2, 0.12], t, 4e-4) * np.exp(-6 * t)
    return (_partials(f, [1.0, 0.6], t, 4e-4) * np.exp(-2.6 * t) + high) * _swell(t, 0.004)


def _acoustic_guitar(f: float) -> NDArray[np.float64]:
    # Karplus-Strong, a period at a time: each period is the last one, averaged and damped.
    t = _time(STRUCK_S)
    period = max(2, round(RATE_HZ / f))
    burst = _noise(period, 11)
    burst -= burst.mean()  # a constant would never fade
    rows = int(np.ceil(len(t) / period))
    table = np.empty((rows, period))
    for row in table:
        row[:] = burst
        burst = 0.993 * (0.5 * burst + 0.5 * np.roll(burst, 1))
    return table.reshape(-1)[: len(t)] * 0.5


def _electric_guitar(f: float) -> NDArray[np.float64]:
    t = _time(LONGEST_S)
    chord = _partials(f, [1 / k for k in range(1, 14)], t) + _partials(1.5 * f, [1 / k for k in range(1, 10)], t)
    return np.tanh(3.5 * chord) * np.exp(-0.5 * t) * _swell(t, 0.006)


def _strings(f: float) -> NDArray[np.float64]:
    t = _time(LONGEST_S)
    weights = [1 / k**1.1 for k in range(1, 13)]
    first, second = (_partials(f * d, weights, t, bend=_vibrato(t, r, 0.004)) for d, r in ((1.0, 5.6), (1.004, 5.1)))
    return (first + second) * _swell(t, 0.12)


def _partial_bank(f: float, ratios: list[float], weights: list[float], t: NDArray[np.float64]) -> NDArray[np.float64]:
    wave = np.zeros_like(t)
    for ratio, weight in zip(ratios, weights, strict=True):
        wave += weight * np.sin(2 * np.pi * f * ratio * t + ratio)
    return wave


def _synth_pad(f: float) -> NDArray[np.float64]:
    t = _time(LONGEST_S)
    detuned = sum(_partials(f * d, [1, 0.5, 0.28, 0.12], t) for d in (0.994, 1.0, 1.007))
    return np.asarray(detuned * _swell(t, 0.3))


def _synth_lead(f: float) -> NDArray[np.float64]:
    t = _time(LONGEST_S)
    square = [1 / k if k % 2 else 0.0 for k in range(1, 22)]
    return (_partials(f, square, t) + _partials(f * 1.008, square, t)) * _swell(t, 0.008)


def _flute(f: float) -> NDArray[np.float64]:
    t = _time(LONGEST_S)
    breath = _noise(len(t), 12)
    breath -= np.convolve(breath, np.ones(8) / 8, mode="same")
    tremble = 1 + 0.25 * np.sin(2 * np.pi * 5 * t)
    return (np.sin(2 * np.pi * f * t) * tremble + 0.1 * np.sin(4 * np.pi * f * t) + 0.12 * breath) * _swell(t, 0.05)


def _saxophone(f: float) -> NDArray[np.float64]:
    # Reed harmonics with a nasal formant, and a wide vibrato of pitch and strength.
    t = _time(LONGEST_S)
    weights = [np.exp(-(((k * f - 1450) / 420) ** 2)) + 0.35 / k for k in range(1, 14)]
    reed = _partials(f, weights, t, bend=_vibrato(t, 5.2, 0.012))
    return reed * _swell(t, 0.04) * (1 + 0.3 * np.sin(2 * np.pi * 5.2 * t))


def _vibraphone(f: float) -> NDArray[np.float64]:
    t = _time(STRUCK_S)
    ring = np.sin(2 * np.pi * f * t) + 0.5 * np.sin(2 * np.pi * 3.93 * f * t) * np.exp(-5 * t)
    return ring * (1 + 0.35 * np.sin(2 * np.pi * 6.5 * t)) * np.exp(-2.0 * t) * _swell(t, 0.002)


def _organ(f: float) -> NDArray[np.float64]:
    # Drawbars with a bright mixture on top, turned by a rotating speaker.
    t = _time(LONGEST_S)
    drawbars = _partial_bank(f, [0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 12.0], [1.0, 0.8, 0.5, 0.4, 0.5, 0.6, 0.4], t)
    return drawbars * (1 + 0.45 * np.sin(2 * np.pi * 6.8 * t)) * _swell(t, 0.01)


def _choir(f: float) -> NDArray[np.float64]:
    # Harmonics shaped by the formants of an open "ah".
    t = _time(LONGEST_S)
    formants = ((730, 160, 1.0), (1090, 170, 0.7), (2600, 250, 0.35))
    weights = [0.05 + sum(a * np.exp(-(((f * k - c) / w) ** 2)) for c, w, a in formants) for k in range(1, 18)]
    return _partials(f, weights, t, bend=_vibrato(t, 4.7, 0.006)) * _swell(t, 0.2)


def _trumpet(f: float) -> NDArray[np.float64]:
    t = _time(LONGEST_S)
    opening = np.minimum(1, t / 0.06)
    soft = _partials(f, [0.5, 0.8, 1.0], t)
    bright = _partials(f, [0, 0, 0, 1.0, 0.9, 0.75, 0.55, 0.4, 0.3], t)
    return np.asarray((soft + bright * opening**2) * _swell(t, 0.015))


VOICES: Final[dict[str, Voice]] = {
    "acoustic guitar": Voice("arpeggio", 48, 1.2, _acoustic_guitar),
    "choir": Voice("chords", 60, 1.0, _choir),
    "electric guitar": Voice("chords", 40, 0.8, _electric_guitar),
    "flute": Voice("melody", 86, 1.0, _flute),
    "organ": Voice("chords", 58, 1.0, _organ),
    "piano": Voice("arpeggio", 62, 1.3, _piano),
    "saxophone": Voice("melody", 58, 1.0, _saxophone),
    "strings": Voice("chords", 67, 0.9, _strings),
    "synth lead": Voice("melody", 72, 0.8, _synth_lead),
    "synth pad": Voice("chords", 48, 1.0, _synth_pad),
    "trumpet": Voice("melody", 67, 0.9, _trumpet),
    "vibraphone": Voice("arpeggio", 81, 1.1, _vibraphone),
}


@lru_cache(maxsize=1024)
def note(instrument: str, midi: int) -> Wave:
    """Return a full-length note of ``instrument``, of unit energy per second at its start."""
    wave = VOICES[instrument].note(hz(midi))
    loudness = np.sqrt(np.mean(wave[: RATE_HZ // 3] ** 2)) + 1e-9
    return np.asarray(wave / loudness, np.float32)


@lru_cache(maxsize=64)
def bass_note(kind: str, midi: int) -> Wave:
    """Return a bass note: ``round`` (plucked), ``sub`` (sine) or ``saw``."""
    t = _time(1.2)
    f = hz(midi)
    match kind:
        case "sub":
            wave = np.sin(2 * np.pi * f * t) + 0.15 * np.sin(4 * np.pi * f * t)
        case "saw":
            wave = _partials(f, [1 / k for k in range(1, 12)], t) * (0.4 + 0.6 * np.exp(-5 * t))
        case _:
            wave = _partials(f, [1.0, 0.5, 0.25, 0.1], t) * np.exp(-2.2 * t)
    return (wave * _swell(t, 0.006)).astype(np.float32)


@lru_cache(maxsize=32)
def drum(kind: str) -> Wave:
    """Return one stroke of ``kick``, ``heart``, ``snare``, ``hat``, ``ride``, ``brush``, ``clap``, ``tom`` or ``shaker``."""
    t = _time({"ride": 0.3, "kick": 0.3, "heart": 0.3, "tom": 0.35, "snare": 0.25, "clap": 0.22}.get(kind, 0.12))
    noise = _noise(len(t), sum(kind.encode()))
    hiss = 0.4 * np.convolve(noise, [1, -2, 1], mode="same")  # above the instruments
    match kind:
        case "kick":
            wave = 1.6 * np.sin(2 * np.pi * (48 * t + 9 * (1 - np.exp(-22 * t)))) * np.exp(-11 * t)
        case "heart":  # a soft, low stroke that keeps the beat where there are no drums
            wave = np.sin(2 * np.pi * (70 * t + 3 * (1 - np.exp(-30 * t)))) * np.exp(-12 * t) + 0.25 * np.sin(
                2 * np.pi * 900 * t
            ) * np.exp(-120 * t)
        case "tom":
            wave = 1.2 * np.sin(2 * np.pi * (105 * t + 5 * (1 - np.exp(-16 * t)))) * np.exp(-9 * t)
        case "snare":
            wave = 0.9 * np.sin(2 * np.pi * 190 * t) * np.exp(-22 * t) + 0.7 * noise * np.exp(-17 * t)
        case "clap":
            bursts = sum(np.exp(-90 * np.abs(t - d)) for d in (0.0, 0.012, 0.024)) + 0.5 * np.exp(-20 * t)
            wave = 0.7 * hiss * bursts
        case "ride":
            wave = 0.3 * (np.sin(2 * np.pi * 6200 * t) + np.sin(2 * np.pi * 7130 * t) + hiss) * np.exp(-14 * t)
        case "brush":
            wave = 0.4 * noise * np.sin(np.pi * np.minimum(1, t / 0.12)) ** 2
        case _:
            wave = 0.5 * hiss * np.exp(-(70 if kind == "hat" else 38) * t)
    return np.asarray(wave, np.float32)
