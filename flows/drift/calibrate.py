"""Try the decision on windows of the reference itself: they have no drift, so every alarm is a false one."""

import numpy as np
from pydantic import BaseModel, ConfigDict

from flows.drift.decide import Prepared, decide
from flows.drift.settings import DriftSettings


class Tried(BaseModel):
    """What A/A windows of one size said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: int
    """In a window."""
    windows: int
    """How many were drawn."""
    alarms: int
    """At the level below."""
    uncorrected: int
    """At the level of the settings."""
    level: float
    """Largest level, up to the settings', at which no more of them raise an alarm than may."""


def calibrate(prepared: Prepared, settings: DriftSettings) -> tuple[Tried, ...]:
    """Return one row per window size that the reference can fill twice, by size."""
    plan = settings.calibration
    smaller = settings.model_copy(update={"permutations": plan.permutations, "most_clips": plan.most_clips})
    sizes = sorted(size for size in set(plan.sizes) if 2 * size <= len(prepared.compared))
    return tuple(_try(prepared, smaller, size, plan.windows) for size in sizes if plan.windows)


def level_for(tried: tuple[Tried, ...], clips: int, settings: DriftSettings) -> float:
    """Return the level for a window of `clips`: the stricter one of the sizes around it."""
    if not tried:
        return settings.false_alarms
    smaller = [row for row in tried if row.clips <= clips][-1:]
    larger = [row for row in tried if row.clips >= clips][:1]
    return min(row.level for row in smaller + larger)


def _try(prepared: Prepared, settings: DriftSettings, size: int, windows: int) -> Tried:
    clips = prepared.compared
    draw = np.random.default_rng([settings.seed, size])
    names, group, counts = np.unique(clips.groups, return_inverse=True, return_counts=True)
    scores = []
    for number in range(windows):
        order = draw.permutation(len(names))  # whole groups, as artists of new clips are mostly new
        taken = order[: int(np.searchsorted(counts[order].cumsum(), size)) + 1]
        inside = np.isin(group, taken)
        rest = Prepared(clips.take(np.flatnonzero(~inside)), prepared.bases)
        window = clips.take(np.flatnonzero(inside))
        scores.append(decide(rest, window, settings, seed=settings.seed + number).score)
    allowed = int(settings.false_alarms * windows)
    beyond = sorted(scores)[allowed] if allowed < windows else 1.0
    level = min(settings.false_alarms, float(np.nextafter(beyond, 0)))
    return Tried(
        clips=size,
        windows=windows,
        alarms=sum(score <= level for score in scores),
        uncorrected=sum(score <= settings.false_alarms for score in scores),
        level=level,
    )
