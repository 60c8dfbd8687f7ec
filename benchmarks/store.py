"""A shuffled batch from the feature store, against `np.take` on the same features in memory and a file per clip.

Prediction: a batch is as many copies of rows either way, so a memory-mapped array should cost what `np.take` costs,
but for the mask that comes with it and the smaller pages of a file. Goal: at least 0.77 of its speed. A file per clip
pays an open, a header and a read for each row.

Pages are warm: this measures the store, not the disk. Run `python -m benchmarks.store`.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.side_by_side import in_turns, ratios
from components.increments import update_store
from components.store import FeatureStore

GOAL = 0.77
SHAPES = {"one sentence": (1, 1024), "8 segments": (8, 240), "30 segments": (30, 512)}  # (segments, dims)

Take = Callable[[np.ndarray], np.ndarray]  # row numbers -> features (B, S, D)


def made(folder: Path, features: np.ndarray) -> FeatureStore:
    """Return a store of features (N, S, D)."""
    spec = {"kind": "benchmark", "dims": features.shape[2], "max_segments": features.shape[1]}

    def compute(clip_ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        yield from ((clip_id, features[int(clip_id)]) for clip_id in clip_ids)

    update_store(folder, spec, [(f"{n:07d}", "key") for n in range(len(features))], compute, shard_rows=4096)
    return FeatureStore.open(folder)


def one_by_one(folder: Path, rows: np.ndarray) -> np.ndarray:
    """Return rows that lie in a file each."""
    return np.stack([np.load(folder / f"{row:07d}.npy") for row in rows.tolist()])


def measure(label: str, clips: int, batch: int, rounds: int) -> bool:
    """Measure features of one shape; every method is asked for the same batches."""
    segments, dims = SHAPES[label]
    rng = np.random.default_rng(0)
    features = rng.standard_normal((clips, segments, dims), np.float32).astype(np.float16)
    batches = [rng.permutation(clips)[:batch] for _ in range(rounds + 1)]
    with tempfile.TemporaryDirectory() as root:
        files = Path(root) / "files"
        files.mkdir()
        for row in range(clips):
            np.save(files / f"{row:07d}.npy", features[row])
        takes: dict[str, Take] = {"np.take in RAM": lambda rows: features.take(rows, axis=0)}
        store = made(Path(root) / "store", features)
        takes["store"] = lambda rows: store.take(rows)[0]
        takes["a file per clip"] = lambda rows: one_by_one(files, rows)
        for name, take in takes.items():  # also reads every page once
            if not np.array_equal(take(np.arange(clips)), features):
                sys.exit(f"error: {name}: other features than were stored")
        seconds = in_turns({name: asked(take, batches) for name, take in takes.items()}, rounds)
    mib = batch * segments * dims * 2 / 2**20
    print(f"{label}: {batch} of {clips:,} clips, ({segments}, {dims}) float16, {mib:.1f} MiB a batch")
    return ratios(seconds, {"store": GOAL})


def asked(take: Take, batches: list[np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a function that takes the next batch each time it is called."""
    following = iter(batches)
    return lambda: take(next(following))


def main() -> None:
    """Measure each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="2,000 clips, 30 rounds")
    args = parser.parse_args()
    clips, rounds = (2000, 30) if args.quick else (args.clips, args.rounds)
    reached = [measure(label, clips, args.batch, rounds) for label in SHAPES]
    print(f"load of the machine while measuring: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    sys.exit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()
