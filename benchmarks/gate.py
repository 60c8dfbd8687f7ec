"""The gate's error rates: how often it promotes an equal model, and how often it finds one that is better.

Prediction: the two-sided 95 % interval of the paired difference lies above 0 for 2.5 % of equal pairs, and a gain
of at least the minimum and every guardrail on top leave at most that. With 4,000 queries of which 18 % change sides
between equal models, the standard error of the difference is about 0.7 points, so a true gain of 3 points stands more
than four errors above 0 and is promoted almost always. Goals: at most 5 % of 200 equal pairs, at least 90 % of 200
pairs with 3 planted points at 4,000 queries.

The simulated pairs are like two trainings of the demo's model with different seeds (270 test queries, measured on the
released settings): logarithms of ranks have a standard deviation of 1.4 and correlate by 0.77 (video+text), 0.87
(video), 0.73 (text); 17 % to 18 % of the queries enter or leave the first ten; an artist has 3 clips, and shares 0.03
of the variance; what a model is better at correlates by 0.5 between video+text and each single mode. The simulation
takes 0.75 for the correlation and 0.05 for the artist's share, also in the difference of two models; 23 % of the
queries change sides then, so it is the harder case. The text and video modes have no gain: the guardrails must hold
on their own. Run `python -m benchmarks.gate`.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np

from components.evaluation.metrics_file import FUSED, MODES
from flows.gate.settings import SHIPPED, GateSettings, read_settings
from flows.gate.sides import Queries, Side
from flows.gate.verdict import make_report

SPREAD, SHARED, ARTIST = 1.4, 0.75, 0.05  # of log rank: deviation, correlation, share of variance
SIZE = 3.0  # clips of an artist, on average
POOL = 2000
GENRES, MOODS = 8, 6
CENTRE = {"video": 0.45, "text": 0.32, FUSED: 0.58}  # R@10 of the champion, as in the demo


@dataclass(frozen=True)
class Simulated:
    """Queries of made-up artists, and two models' ranks of them."""

    queries: Queries
    champion: Side
    challenger: Side


def simulate(count: int, gain: float, draw: np.random.Generator) -> Simulated:
    """Draw ``count`` queries and two models that differ by ``gain`` in R@10 for video+text, and by chance."""
    sizes = draw.geometric(1 / SIZE, size=count)
    artist = np.repeat(np.arange(count), sizes)[:count]
    labels = {
        by: tuple(f"{by} {name}" for name in draw.integers(many, size=count))
        for by, many in (("genre", GENRES), ("mood", MOODS))
    }
    queries = Queries(
        tuple(f"{at:06d}" for at in range(count)), tuple(f"artist {at:06d}" for at in artist), (0,) * count, POOL,
        10 / POOL, "annotation", labels=labels,
    )  # fmt: skip
    normal = draw.standard_normal
    # What both models find hard, and what each has of its own; the artist has a part in both.
    hard = {mode: _mixed(normal(count), normal(count)[artist]) for mode in MODES}
    own = [{mode: _mixed(normal(count), normal(count)[artist]) for mode in MODES} for _ in range(2)]
    sides = []
    for number, extra in enumerate((0.0, gain)):
        ranks = {}
        for mode in MODES:
            # Half of what moves the fused ranks also moves the others.
            part = own[number][mode] if mode == FUSED else np.sqrt(0.5) * (own[number][FUSED] + own[number][mode])
            noise = np.sqrt(SHARED) * hard[mode] + np.sqrt(1 - SHARED) * part
            share = CENTRE[mode] + (extra if mode == FUSED else 0.0)
            ranks[mode] = _ranks(noise, share)
        top = {mode: np.array(queries.clips) for mode in MODES}
        sides.append(Side(("champion", "challenger")[number], ranks, top))
    return Simulated(queries, *sides)


def _mixed(alone: np.ndarray, artist: np.ndarray) -> np.ndarray:
    return np.sqrt(1 - ARTIST) * alone + np.sqrt(ARTIST) * artist


def _ranks(noise: np.ndarray, share: float) -> np.ndarray:
    """Return ranks (Q,) of which a true share is at most 10: noise is standard normal, log rank is 1.4 of it."""
    from statistics import NormalDist

    at_ten = NormalDist().inv_cdf(share)
    return np.clip(np.floor(10.999 * np.exp(SPREAD * (noise - at_ten))), 1, POOL).astype(np.int64)


def promoted(pairs: int, count: int, gain: float, settings: GateSettings, seed: int) -> dict[str, int]:
    """Return how many of so many pairs came to each verdict."""
    found = {"passed": 0, "failed": 0, "inconclusive": 0}
    for number in range(pairs):
        pair = simulate(count, gain, np.random.default_rng([seed, number]))
        report = make_report(pair.queries, pair.challenger, pair.champion, "champion", settings, made="now")
        found[str(report.verdict)] += 1
    return found


def main() -> None:
    """Simulate equal pairs and pairs with a planted gain; print the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resamples", type=int, help="default: those of gate.yaml")
    args = parser.parse_args()
    settings = read_settings(SHIPPED.parent)
    if args.resamples:
        settings = settings.model_copy(update={"resamples": args.resamples})
    reached = True
    print(
        f"{args.pairs} simulated pairs each, {settings.resamples:,} resamples, minimum effect {settings.minimum_effect:g}"
    )
    for count, gain in ((270, 0.0), (1000, 0.0), (4000, 0.0), (270, 0.03), (1000, 0.03), (4000, 0.03), (270, 0.12)):
        found = promoted(args.pairs, count, gain, settings, args.seed)
        share = found["passed"] / args.pairs
        goal = share <= 0.05 if gain == 0 else (share >= 0.9 if (count, gain) == (4000, 0.03) else None)
        said = {True: "   goal reached", False: "   GOAL MISSED", None: ""}[goal]
        reached &= goal is not False
        told = ", ".join(f"{name} {number / args.pairs:6.1%}" for name, number in found.items())
        print(f"  {count:5,} queries, true gain {100 * gain:4.1f} points: {told}{said}", flush=True)
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
