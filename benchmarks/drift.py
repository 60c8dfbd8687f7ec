"""Drift decisions side by side: false alarms on windows without drift (A/A), and power on planted shifts.

    python -m benchmarks.drift [--windows 200] [--evidently 20]

Features are made to be like real ones: a few dozen hidden factors mixed into all dimensions, heavy tails
(Student's t with 4 degrees of freedom), and clips of one artist alike. References of 800 clips and windows
of 120. Evidently's decisions are on the same windows: its default tests and its population stability index
on the same principal components (drift when half the columns drift, its rule), and its embedding method
(MMD over a fixed threshold; with its bootstrap one decision takes minutes, so it is left out).
"""

import argparse
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flows.drift.decide import Prepared, decide, prepare
from flows.drift.sample import Sample
from flows.drift.settings import DriftSettings, read_settings

DIMS = (16, 256, 1024)
SHIFTS = {
    "A/A, no drift": {},
    "mean of 3 factors, 0.8 sd": {"mean": 0.8},
    "spread of factors x 1.5": {"spread": 1.5},
    "a fifth of clips from elsewhere": {"elsewhere": 0.2},
}
REFERENCE, WINDOW, WINDOWS_EACH = 800, 120, 10
_ARTIST_SHARE = 0.3  # of the variance of factors
_TAGS = tuple(f"{group}:{name}" for group in ("genres", "moods", "instruments") for name in "abcdef")


class World:
    """Two modalities, each a mixture of hidden factors."""

    def __init__(self, dims: int, seed: int) -> None:
        draw = np.random.default_rng([dims, seed])
        self.factors = min(40, dims)
        size = np.arange(1, self.factors + 1)[:, None] ** -0.5  # some directions matter more than others
        self.mixing = {name: draw.normal(size=(self.factors, dims)) * size for name in ("video", "music")}
        self.popular = draw.uniform(0.05, 0.5, len(_TAGS))
        self.draw = draw

    def clips(self, count: int, prefix: str, mean: float = 0.0, spread: float = 1.0, elsewhere: float = 0.0) -> Sample:
        """Draw clips of new artists, with a planted shift of the music."""
        draw = self.draw
        artist = np.repeat(np.arange(count), draw.integers(1, 6, count))[:count]
        features = {}
        for name, mixing in self.mixing.items():
            own = draw.standard_t(4, (count, self.factors)) / np.sqrt(2)
            factors = np.sqrt(1 - _ARTIST_SHARE) * own + np.sqrt(_ARTIST_SHARE) * draw.normal(size=own.shape)[artist]
            if name == "music":
                factors = factors * spread
                factors[:, :3] += mean
                factors[draw.random(count) < elsewhere, 3:6] += 3.0
            noise = 0.5 * draw.standard_t(4, (count, mixing.shape[1]))
            features[name] = (factors @ mixing + noise).astype(np.float32)
        names = np.array([f"{prefix}-{number}" for number in range(count)])
        scalars = {
            "length (s)": draw.gamma(4.0, 50.0, count),
            "pictures per second": draw.choice([24.0, 25.0, 30.0], count),
        }
        tags = tuple(tuple(tag for tag, has in zip(_TAGS, row, strict=True) if has)
                     for row in draw.random((count, len(_TAGS))) < self.popular)  # fmt: skip
        groups = np.array([f"{prefix}-artist-{number}" for number in artist])
        return Sample(names, groups, features, scalars, tags, np.full(count, np.nan))


def settings(permutations: int = 199) -> DriftSettings:
    """The shipped settings, with fewer permutations and clips: what calibration uses."""
    return read_settings(Path()).model_copy(update={"permutations": permutations, "most_clips": 400})


def windows(dims: int, count: int, shift: dict[str, float]) -> Iterator[tuple[Prepared, Sample, Sample]]:
    """Yield (prepared reference, the reference, a window), a new world every few windows."""
    for number in range(count):
        if number % WINDOWS_EACH == 0:
            world = World(dims, number)
            reference = world.clips(REFERENCE, "old")
            prepared = prepare(reference, read_settings(Path()).components)
        yield prepared, reference, world.clips(WINDOW, f"new{number}", **shift)


def evidently(prepared: Prepared, reference: Sample, window: Sample) -> dict[str, bool]:
    """Evidently's decisions: each method for both modalities, drift in either counts."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.legacy.metrics.data_drift.embedding_drift_methods import mmd
    from evidently.presets import DataDriftPreset

    said: Counter[str] = Counter()
    for name, basis in prepared.bases.items():
        sides = [pd.DataFrame(basis.project(one.features[name])).add_prefix("c") for one in (reference, window)]
        for method in (None, "psi"):
            data = [Dataset.from_pandas(side, DataDefinition(numerical_columns=list(side))) for side in reversed(sides)]
            result = Report([DataDriftPreset(num_method=method)]).run(*data).dict()
            share = next(
                metric["value"]["share"] for metric in result["metrics"] if "DriftedColumns" in metric["metric_name"]
            )
            said[f"Evidently, half the columns, {method or 'default test'}"] += share >= 0.5
            said[f"Evidently, any column, {method or 'default test'}"] += share > 0
        raw = [pd.DataFrame(one.features[name]).add_prefix("d") for one in (window, reference)]
        said["Evidently, MMD of the embedding"] += bool(mmd(bootstrap=False)(*raw)[1])
    return {name: times > 0 for name, times in said.items()}


def measure(dims: int, shift: dict[str, float], count: int, beside: int) -> tuple[Counter[str], Counter[str]]:
    """Return how often each decision raised the alarm, and of how many windows."""
    alarms: Counter[str] = Counter()
    of: Counter[str] = Counter()
    ours = settings()
    for number, (prepared, reference, window) in enumerate(windows(dims, count, shift)):
        alarms["needledrop"] += decide(prepared, window, ours, seed=number).drifted
        of["needledrop"] += 1
        if number < beside:
            for name, drifted in evidently(prepared, reference, window).items():
                alarms[name] += drifted
                of[name] += 1
    return alarms, of


def main() -> None:
    """Print a table: alarms per decision, dims and shift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=200, help="A/A windows for each number of dims")
    parser.add_argument("--shifted", type=int, default=40, help="windows for each planted shift")
    parser.add_argument("--evidently", type=int, default=20, help="of them, windows that Evidently decides too")
    arguments = parser.parse_args()
    os.environ.setdefault("DO_NOT_TRACK", "1")
    warnings.simplefilter("ignore")
    print(f"{'dims':>5}  {'windows':31}  {'decision':44}  alarms")
    for dims in DIMS:
        for title, shift in SHIFTS.items():
            began = time.monotonic()
            count = arguments.shifted if shift else arguments.windows
            alarms, of = measure(dims, shift, count, min(count, arguments.evidently))
            for name in of:
                print(
                    f"{dims:>5}  {title:31}  {name:44}  {alarms[name]:>3} of {of[name]:>3} = {alarms[name] / of[name]:6.1%}"
                )
            print(f"       ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
