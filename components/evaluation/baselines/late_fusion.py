"""Late fusion: a system that sees the video and one that reads the text, their scores added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import Gathers
from components.evaluation.baselines.examples import Examples, TooFewClips, log_rank
from components.evaluation.scorer import Scorer
from components.modalities import Modality

WEIGHTS: Final = tuple(float(weight) for weight in np.linspace(0.0, 1.0, 21))


@dataclass(frozen=True)
class LateFusion:
    """Standardised scores of two bimodal systems, weighted; alone, each answers for its own modality.

    Attributes:
        by_video: asked in mode ``video``.
        by_text: asked in mode ``text``.
        weight: of the text, 0 to 1.
    """

    by_video: Scorer
    by_text: Scorer
    weight: float

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        """Return the scores (N, N) of one side, or the mix for ``video+text``."""
        if mode == "video":
            return self.by_video.scores(sources, ids, mode)
        if mode == "text":
            return self.by_text.scores(sources, ids, mode)
        return mix(self.by_video.scores(sources, ids, "video"), self.by_text.scores(sources, ids, "text"), self.weight)


def fit_late_fusion(by_video: Scorer, by_text: Scorer, val: Examples, weights: Sequence[float] = WEIGHTS) -> LateFusion:
    """Take the weight of least mean log rank on validation clips that have video and text; ties: the first.

    Raises:
        TooFewClips: fewer than two such clips.
    """
    rows = val.seen("video+text")
    if len(rows) < 2:
        raise TooFewClips(f"late fusion: {len(rows)} of {len(val.ids)} val clips have video and text; two are needed")
    ids, positives = [val.ids[at] for at in rows], val.positives(rows)
    seen, read = by_video.scores(val.sources, ids, "video"), by_text.scores(val.sources, ids, "text")
    losses = [log_rank(mix(seen, read, weight), positives) for weight in weights]
    return LateFusion(by_video, by_text, weights[int(np.argmin(losses))])


def mix(by_video: NDArray[np.float32], by_text: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Return (1 - weight) z(video) + weight z(text); z makes a matrix's mean 0 and deviation 1."""
    return np.asarray((1.0 - weight) * _z(by_video) + weight * _z(by_text), np.float32)


def _z(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = scores.astype(np.float64)
    scaled: NDArray[np.float64] = (wide - wide.mean()) / max(float(wide.std()), 1e-12)
    return scaled
