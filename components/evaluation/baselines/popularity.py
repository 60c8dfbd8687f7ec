"""Popularity: what music is like on average, whatever the query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.encoder.cca import Axes, fit_axes, unit
from components.encoder.embed import Gathers
from components.evaluation.baselines.examples import Examples, pooled
from components.modalities import MUSIC, Modality


@dataclass(frozen=True)
class PopularityScorer:
    """An item's mean cosine to the training music: the prior of the item, the same for every query.

    A catalogue has no play counts, so this is as much as can be known without a query: typical music
    is a likelier answer than odd music.

    Attributes:
        side: how music features are standardised.
        centre: (D,) mean of the training clips' unit vectors.
    """

    side: Axes
    centre: NDArray[np.float64]

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        """Return the prior of every item, (N, N) with equal rows."""
        prior = unit(self.side.standardise(pooled(sources[MUSIC], ids, spread=False))) @ self.centre
        return np.tile(prior.astype(np.float32), (len(ids), 1))


def fit_popularity(train: Examples) -> PopularityScorer:
    """Take the prior from the music of training clips.

    Raises:
        ValueError: fewer than two clips, or features that are not finite.
    """
    rows = pooled(train.sources[MUSIC], train.ids, spread=False)
    side = fit_axes(rows)
    return PopularityScorer(side, unit(side.standardise(rows)).mean(axis=0))
