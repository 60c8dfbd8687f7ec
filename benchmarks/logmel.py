"""Log-mel spectra of `components/features`, against the Fourier transforms in them alone.

Prediction: framing, windowing, squaring, mel bands and decibels are each a pass over what a transform has just
written; done a few frames at a time in the same memory they should add little. Goal: at least 0.80 of the speed of
one batched rfft of frames that are already windowed, and within 1e-4 dB of librosa's.

Run `python -m benchmarks.logmel`. The comparison with librosa needs `pip install librosa==0.11.0` (used here and in
one test, not by the product); without it that part is named as not run. One thread.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.side_by_side import in_turns, ratios
from components.features.spectrum import FLOOR_DB, empty_power, log_mel, one_thread, power_spectrum

GOAL = 0.80
GOAL_DB = 1e-4


def music_like(seconds: float, rate_hz: int) -> np.ndarray:
    """Return (N,) float32: chords with beats over noise, and a second of silence."""
    rng = np.random.default_rng(0)
    clock = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = sum(
        0.1 * np.sin(2 * np.pi * hz * clock + phase) for hz, phase in zip((110, 277, 659, 2093), range(4), strict=True)
    )
    sound = tones * np.exp(-4 * (clock % 0.5)) + 0.02 * rng.standard_normal(len(clock))
    sound[rate_hz : 2 * rate_hz] = 0
    return sound.astype(np.float32)


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the sound")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="10 s of sound, 10 rounds")
    args = parser.parse_args()
    seconds, rounds = (10.0, 10) if args.quick else (args.seconds, args.rounds)
    torch.set_num_threads(1)
    music = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["features"]["music"]
    rate_hz, window, hop, bands = (music[key] for key in ("sample_rate_hz", "window", "hop", "mel_bands"))
    sound = music_like(seconds, rate_hz)
    padded = torch.nn.functional.pad(torch.from_numpy(sound), (window // 2, window // 2))
    frames = padded.unfold(0, window, hop) * torch.hann_window(window)  # (T, window)

    methods = {
        "batched rfft only": lambda: torch.fft.rfft(frames),
        "log-mel": lambda: log_mel(sound, rate_hz, window, hop, bands),
        "log-mel, power kept": lambda: log_mel(sound, rate_hz, window, hop, bands, empty_power(sound, window, hop)),
        "power spectrum alone": lambda: power_spectrum(sound, window, hop),
        "torch.stft alone": lambda: torch.stft(
            torch.from_numpy(sound), window, hop, window=torch.hann_window(window), pad_mode="constant", return_complex=True
        ),
    }  # fmt: skip
    print(f"{seconds:.0f} s at {rate_hz} Hz: {len(frames):,} frames of {window}, {bands} bands, one thread")
    reached, agrees = True, True
    try:
        import librosa
    except ModuleNotFoundError:
        print("  librosa: not run, it is not installed (pip install librosa==0.11.0)")
    else:

        def by_librosa() -> np.ndarray:
            mel = librosa.feature.melspectrogram(
                y=sound, sr=rate_hz, n_fft=window, hop_length=hop, n_mels=bands, pad_mode="constant"
            )
            return np.asarray(librosa.power_to_db(mel, amin=10 ** (FLOOR_DB / 10), top_db=None))

        methods["librosa"] = by_librosa
        apart_db = float(np.abs(methods["log-mel"]() - by_librosa()).max())
        agrees = apart_db <= GOAL_DB
        print(
            f"  furthest from librosa's: {apart_db:.1e} dB   goal {GOAL_DB:.0e}: {'reached' if agrees else 'NOT REACHED'}"
        )
    with one_thread():  # as the extractor does; it holds for numpy's products too
        seconds = in_turns(methods, rounds)
    reached = ratios(seconds, {"log-mel": GOAL})
    print(f"load of the machine while measuring: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    sys.exit(0 if reached and agrees else 1)


if __name__ == "__main__":
    main()
