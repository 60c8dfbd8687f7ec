"""Small stand-ins for the tagging tests: sound files, weights of tiny nets, rows of tables."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components import tables

RATE_HZ = 16_000

THRESHOLDS = {"genres": 0.3, "moods": 0.3, "instruments": 0.3}
AUDIO = {
    "thresholds": THRESHOLDS, "min_examples": 3, "folds": 3, "seed": 1, "calibrate": False, "hop_s": 2.0,
    "batch_size": 4, "device": "cpu", "threads": 1, "workers": 2,
}  # fmt: skip


def tone(hz: float, seconds: float, level: float = 0.3) -> np.ndarray:
    """A sine."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def write_wav(path: Path, sound: np.ndarray) -> Path:
    """Write mono sound as 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as handle:
        handle.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        handle.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def mel_bank() -> np.ndarray:
    """HTK's triangles by their formula: (257, 96), peaks of 1, 0 to 8,000 Hz."""
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 98)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = np.linspace(0, 8000, 257)[:, None]
    up = (bins - edges[:-2]) / np.diff(edges)[:-1]
    down = (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(up, down))


def tiny_state(architecture: str, outputs: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict with the published names, few channels, and weights by chance."""
    conv = {"fcn": range(1, 6), "crnn": range(1, 5), "musicnn": range(1, 4)}[architecture]
    shapes: dict[str, tuple[int, ...]] = {}
    if architecture == "musicnn":
        shapes |= {"layers.0": (6, 1, 67, 7), "layers.1": (6, 1, 38, 7)}
        shapes |= {f"layers.{n}": (3, 1, length) for n, length in ((2, 129), (3, 65), (4, 33))}
        shapes |= {f"layer{n}": (4, 21 if n == 1 else 4, 7) for n in conv}
    else:
        shapes |= {f"layer{n}": (4, 1 if n == 1 else 4, 3, 3) for n in conv}
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / np.sqrt(max(1, np.prod(shape[1:])))

    def norm(name: str, count: int) -> dict[str, torch.Tensor]:
        return {
            f"{name}.weight": torch.ones(count), f"{name}.bias": drawn(count), f"{name}.running_mean": drawn(count),
            f"{name}.running_var": torch.ones(count), f"{name}.num_batches_tracked": torch.tensor(1),
        }  # fmt: skip

    state = {"spec.spectrogram.window": torch.hann_window(512), "spec.mel_scale.fb": torch.tensor(mel_bank()).float()}
    state |= norm("spec_bn", 1) | {"spec_bn.running_var": torch.tensor([1000.0])}
    for name, shape in shapes.items():
        state |= {f"{name}.conv.weight": drawn(*shape), f"{name}.conv.bias": drawn(shape[0])}
        state |= norm(f"{name}.bn", shape[0])
    if architecture == "crnn":
        for layer in (0, 1):
            state |= {f"layer5.weight_ih_l{layer}": drawn(12, 4), f"layer5.weight_hh_l{layer}": drawn(12, 4)}
            state |= {f"layer5.bias_ih_l{layer}": drawn(12), f"layer5.bias_hh_l{layer}": drawn(12)}
    if architecture == "musicnn":
        state |= {"dense1.weight": drawn(8, 66), "dense1.bias": drawn(8)} | norm("bn", 8)
        return state | {"dense2.weight": 3 * drawn(outputs, 8), "dense2.bias": drawn(outputs)}
    return state | {"dense.weight": 3 * drawn(outputs, 4), "dense.bias": drawn(outputs)}


def clip_row(clip_id: str, path: Path, seconds: float, start_s: float = 0.0) -> dict[str, Any]:
    """A row of the manifest."""
    return dict.fromkeys(tables.MANIFEST.names, "x") | {
        "clip_id": clip_id, "uri": str(path), "sha256": clip_id, "bytes": 1, "width": 1, "height": 1,
        "duration_s": seconds, "fps": 1.0, "sample_rate_hz": RATE_HZ, "channels": 1, "start_s": start_s,
        "end_s": start_s + seconds,
    }  # fmt: skip


def seed_row(clip_id: str, path: Path, seconds: float, *tags: tuple[str, str]) -> dict[str, Any]:
    """A row of the seed library."""
    return {
        "clip_id": clip_id, "uri": str(path), "sha256": clip_id, "start_s": 0.0, "end_s": seconds,
        "tags": [{"group": group, "name": name} for group, name in tags],
    }  # fmt: skip
