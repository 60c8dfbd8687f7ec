"""CCA as a scorer: one fit per query mode on pooled features, its strength chosen on validation clips."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.encoder.cca import CCA, Rows, fit_axes, shared, solve
from components.encoder.embed import MODES, Gathers
from components.evaluation.baselines.examples import Examples, TooFewClips, log_rank, pooled
from components.modalities import MUSIC, Modality


@dataclass(frozen=True)
class Setting:
    """How strongly a CCA is regularised.

    Attributes:
        query_ridge: and music_ridge: in variances of one standardised feature.
        directions: most canonical directions.
        power: directions count by their correlation to this power.
    """

    query_ridge: float
    music_ridge: float
    directions: int
    power: float


GRID: Final = tuple(Setting(*of) for of in product((0.3, 3.0, 10.0, 30.0), (0.1, 1.0, 10.0), (8, 32, 128), (1.0, 2.0)))


@dataclass(frozen=True)
class Fitted:
    """A CCA and the power of its correlations."""

    cca: CCA
    setting: Setting

    def scores(self, query: Rows, music: Rows) -> NDArray[np.float32]:
        """Return the scores (N, G) of pooled features."""
        return self.cca.scores(query, music, self.setting.power)


@dataclass(frozen=True)
class CCAScorer:
    """Scores by the CCA of the mode asked for; the query features of several modalities stand side by side.

    Attributes:
        modes: a fit for each mode there was data for.
        spread: whether the features' spread over segments is used beside their mean.
    """

    modes: Mapping[str, Fitted]
    spread: bool

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        """Return the cosines (N, N) along the canonical directions."""
        return self.modes[mode].scores(*_sides(sources, ids, mode, self.spread))

    @property
    def settings(self) -> dict[str, dict[str, float]]:
        """Return the chosen setting of each mode."""
        return {mode: asdict(fitted.setting) for mode, fitted in self.modes.items()}


def fit_cca_scorer(train: Examples, val: Examples, spread: bool, grid: Sequence[Setting] = GRID) -> CCAScorer:
    """Fit every mode that ``train`` and ``val`` have features for, each with the setting best on ``val``.

    Raises:
        TooFewClips: no mode has two training clips and two validation clips.
    """
    modes = {}
    for mode, modalities in MODES.items():
        if all(m in train.sources and m in val.sources for m in modalities):
            train_rows, val_rows = train.seen(mode), val.seen(mode)
            if min(len(train_rows), len(val_rows)) >= 2:
                train_sides = _sides(train.sources, [train.ids[at] for at in train_rows], mode, spread)
                val_sides = _sides(val.sources, [val.ids[at] for at in val_rows], mode, spread)
                modes[mode] = fit_best_setting(*train_sides, *val_sides, val.positives(val_rows), grid)
    if not modes:
        raise TooFewClips(
            f"CCA: {len(train.ids)} train and {len(val.ids)} val clips; no query mode has two of each with features"
        )
    return CCAScorer(modes, spread)


def fit_best_setting(
    query: Rows, music: Rows, val_query: Rows, val_music: Rows, positives: NDArray[np.bool_], grid: Sequence[Setting]
) -> Fitted:
    """Fit on pairs (N, P) and (N, Q) with the setting of least loss on validation pairs."""
    losses = val_losses(query, music, val_query, val_music, positives, grid)
    return fit_settings(query, music, [grid[int(np.argmin(losses))]])[0]


def val_losses(
    query: Rows, music: Rows, val_query: Rows, val_music: Rows, positives: NDArray[np.bool_], grid: Sequence[Setting]
) -> NDArray[np.float64]:
    """Return the loss of every setting of the grid on validation pairs: the mean log rank."""
    return np.array([log_rank(fit.scores(val_query, val_music), positives) for fit in fit_settings(query, music, grid)])


def fit_settings(query: Rows, music: Rows, grid: Sequence[Setting]) -> list[Fitted]:
    """Return a fit per setting; what they share is computed once.

    Raises:
        ValueError: the sides differ in rows, or are too few or not finite.
    """
    left, right = fit_axes(query), fit_axes(music)
    covariance = shared(left, right, query, music)
    widest: dict[tuple[float, float], CCA] = {}
    most = max(setting.directions for setting in grid)
    for setting in grid:
        ridges = (setting.query_ridge, setting.music_ridge)
        if ridges not in widest:
            widest[ridges] = solve(left, right, covariance, *ridges, most)
    return [
        Fitted(widest[setting.query_ridge, setting.music_ridge].first(setting.directions), setting) for setting in grid
    ]


def _sides(
    sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str, spread: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    query = np.concatenate([pooled(sources[m], ids, spread) for m in MODES[mode]], axis=1)
    return query, pooled(sources[MUSIC], ids, spread)
