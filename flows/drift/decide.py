"""The decision: is this window of new clips drawn from what the reference was drawn from?

Each family of measurements gives one p-value: a modality from three tests of which two must agree,
plain numbers and tags from one test each. Holm's correction over the families gives the decision, at a
level that was tried on windows of the reference itself: they have no drift, so every alarm is a false one (A/A).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from flows.drift.basis import Basis, fit_basis
from flows.drift.sample import Sample
from flows.drift.settings import DriftSettings
from flows.drift.two_sample import (
    Labels,
    Result,
    domain_classifier,
    frequencies,
    holm,
    kolmogorov_smirnov,
    mean_discrepancy,
    shuffled_labels,
)

KS, MMD, CLASSIFIER, SHARES = "distributions", "kernel", "classifier", "shares"
SCALARS, TAGS, ALIGNMENT = "media", "tags", "alignment"
AGREEING: Final = 1.5
"""Two of three tests agree at level a by chance with probability 3 a / 2 at most, however they depend."""
_LEAST_FREQUENT = 5  # clips of both sides together; a tag of fewer says nothing


@dataclass(frozen=True)
class Family:
    """One family of measurements.

    Attributes:
        name: a modality, media, tags or alignment.
        tests: the result of each test.
        columns: what the columns of the tests with columns are.
        p: over its tests. adjusted: over the families.
        drifted: whether it raises the alarm.
    """

    name: str
    tests: dict[str, Result]
    columns: tuple[str, ...]
    p: float
    adjusted: float = 1.0
    drifted: bool = False

    def votes(self, level: float) -> list[str]:
        """The tests that see drift at `level` of the family."""
        share = AGREEING if len(self.tests) > 1 else 1.0
        return [name for name, test in self.tests.items() if share * test.p <= level]


@dataclass(frozen=True)
class Decision:
    """Whether a window drifted.

    Attributes:
        drifted: at least one family did.
        level: what adjusted p-values must not exceed.
        families: all that were compared, in a fixed order.
        clips: of the reference and of the window that went into the tests.
    """

    drifted: bool
    level: float
    families: tuple[Family, ...]
    clips: tuple[int, int]

    @property
    def score(self) -> float:
        """The smallest adjusted p-value."""
        return min((family.adjusted for family in self.families), default=1.0)


@dataclass(frozen=True)
class Prepared:
    """A reference, ready to be compared with.

    Attributes:
        compared: the clips that windows are compared with. The basis is fitted on the others: clips it was
            fitted on lie nearer to its axes than any new clip, which would look like drift.
        bases: by modality.
    """

    compared: Sample
    bases: dict[str, Basis] = field(default_factory=dict)


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


def prepare(reference: Sample, components: int) -> Prepared:
    """Part the reference into clips that the bases are fitted on and clips to compare with, by group."""
    fitting = np.array([_half(name) for name in reference.groups])
    if not 0.25 <= fitting.mean() <= 0.75:  # a few large groups: by clip, then
        fitting = np.array([_half(name) for name in reference.clip_ids])
    own = reference.take(np.flatnonzero(fitting))
    bases = {name: fit_basis(array, components) for name, array in own.features.items() if len(array) > 2}
    return Prepared(reference.take(np.flatnonzero(~fitting)), bases)


def decide(
    prepared: Prepared, window: Sample, settings: DriftSettings, level: float | None = None, seed: int | None = None
) -> Decision:
    """Compare a window with a prepared reference.

    Args:
        prepared: the reference.
        window: new clips.
        settings: tests and their level.
        level: of the whole decision; default: `settings.false_alarms`.
        seed: of permutations, folds and draws; default: the settings'.
    """
    level = settings.false_alarms if level is None else level
    seed = settings.seed if seed is None else seed
    reference = prepared.compared.thinned(settings.most_clips, seed)
    window = window.thinned(settings.most_clips, seed)
    measured = list(_families(reference, window, prepared.bases, settings, seed))
    adjusted = holm(np.array([family.p for family in measured]))
    families = tuple(
        Family(f.name, f.tests, f.columns, f.p, float(p), bool(p <= level))
        for f, p in zip(measured, adjusted, strict=True)
    )
    return Decision(any(f.drifted for f in families), level, families, (len(reference), len(window)))


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


def _families(
    reference: Sample, window: Sample, bases: dict[str, Basis], settings: DriftSettings, seed: int
) -> Iterator[Family]:
    draw = np.random.default_rng(seed)
    groups = np.concatenate([reference.groups, window.groups])
    is_window = np.arange(len(groups)) >= len(reference)
    labels = shuffled_labels(groups, is_window, settings.permutations, draw)
    for name, basis in bases.items():
        columns = basis.project(np.concatenate([reference.features[name], window.features[name]]))
        even = _even(columns)
        tests = {
            KS: kolmogorov_smirnov(columns, labels),
            MMD: mean_discrepancy(even, labels),
            CLASSIFIER: domain_classifier(even, groups, labels, settings.folds, draw),
        }
        second = sorted(test.p for test in tests.values())[1]
        named = (*(f"component {number + 1}" for number in range(columns.shape[1] - 1)), "what components leave out")
        yield Family(name, tests, named, min(1.0, AGREEING * second))
    yield from _plain(reference, window, labels)


def _plain(reference: Sample, window: Sample, labels: Labels) -> Iterator[Family]:
    names = [name for name in reference.scalars if name in window.scalars]
    if names:
        columns = np.column_stack([np.concatenate([reference.scalars[n], window.scalars[n]]) for n in names])
        yield _single(SCALARS, KS, kolmogorov_smirnov(_finite(columns), labels), names)
    clips = [set(tags) for tags in (*reference.tags, *window.tags)]
    count = {tag: sum(tag in one for one in clips) for tag in sorted(set().union(*clips))}
    known = [tag for tag, times in count.items() if times >= _LEAST_FREQUENT]
    if known:
        present = np.array([[tag in one for tag in known] for one in clips], np.float32)
        yield _single(TAGS, SHARES, frequencies(present, labels), known)
    cosine = np.concatenate([reference.alignment, window.alignment])
    told = np.isfinite(cosine)
    if min(told[: len(reference)].sum(), told[len(reference) :].sum()) >= 2 * _LEAST_FREQUENT:
        kept = labels[told]
        kept = kept[:, (kept.sum(axis=0) > 0) & (kept.sum(axis=0) < len(kept))]
        result = kolmogorov_smirnov(cosine[told, None].astype(np.float32), kept)
        yield _single(ALIGNMENT, KS, result, ["cosine of pictures and music"])


def _single(name: str, test: str, result: Result, columns: list[str]) -> Family:
    return Family(name, {test: result}, tuple(columns), result.p)


def _finite(columns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Replace what is not known by a value below all others: being unknown is a value too."""
    lowest = np.nanmin(np.where(np.isfinite(columns), columns, np.inf), axis=0)
    return np.where(np.isfinite(columns), columns, np.where(np.isfinite(lowest), lowest, 0.0) - 1).astype(np.float32)


def _even(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return columns of mean 0 and variance 1 over both sides; beyond 4 a value counts as 4."""
    even = (columns - columns.mean(axis=0)) / (columns.std(axis=0) + 1e-6)
    return np.asarray(np.clip(even, -4, 4), np.float32)


def _half(name: str) -> bool:
    return bool(hashlib.sha256(name.encode()).digest()[0] & 1)
