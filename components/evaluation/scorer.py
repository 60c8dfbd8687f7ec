"""What ranks: anything that scores every query of a pool against every piece of its music.

The trimodal model is one scorer; the baselines (popularity, CCA, late fusion) are others, so all are
ranked, resampled and drawn by the same code.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import MODES, Gathers, embed_music, embed_queries
from components.encoder.model import TrimodalModel
from components.modalities import MUSIC, Modality


class Scorer(Protocol):
    """What the evaluation needs of a system."""

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        """Return (N, N): how well the music of clip j suits the query of clip i, higher is better.

        Args:
            sources: features by modality; at least music and what ``mode`` shows.
            ids: the N clips that are queries and gallery.
            mode: what the query shows, a key of `components.encoder.embed.MODES`.
        """
        ...


class ModelScorer:
    """The cosine of the trimodal model's query and music embeddings."""

    def __init__(self, model: TrimodalModel) -> None:
        self._model = model
        self._gallery: tuple[Gathers, list[str], NDArray[np.float32]] | None = None

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        """Return the cosines (N, N)."""
        queries = embed_queries(self._model, {m: sources[m] for m in MODES[mode]}, ids)
        matrix: NDArray[np.float32] = queries @ self._music(sources[MUSIC], list(ids)).T
        return matrix

    def _music(self, source: Gathers, ids: list[str]) -> NDArray[np.float32]:
        # One gallery serves every mode: embedding it again for each would be most of the work.
        if self._gallery is None or self._gallery[0] is not source or self._gallery[1] != ids:
            self._gallery = (source, ids, embed_music(self._model, source, ids))
        return self._gallery[2]
