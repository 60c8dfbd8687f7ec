"""What a baseline is fitted on: clips, their features, and which of them are one track."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import MODES, Gathers
from components.encoder.ranking import ranks
from components.evaluation.exchange import EitherText
from components.evaluation.pool import rows_of_split, with_video_and_music
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.store import FeatureStore, segment_mean, segment_spread


class TooFewClips(ValueError):
    """There are too few clips to fit a baseline on, or to choose its setting by."""


@dataclass(frozen=True)
class Examples:
    """Clips of one split.

    Attributes:
        sources: features by modality; a clip without a text has an empty mask there.
        ids: the N clips.
        tracks: (N,) integers; equal numbers are the same track.
    """

    sources: Mapping[Modality, Gathers]
    ids: Sequence[str]
    tracks: NDArray[np.int64]

    def seen(self, mode: str) -> NDArray[np.int64]:
        """Return which of the clips have music and all that ``mode`` shows, as positions in ``ids``."""
        masks = [self.sources[m].gather(self.ids)[1].any(axis=1) for m in (*MODES[mode], MUSIC)]
        return np.flatnonzero(np.logical_and.reduce(masks))

    def positives(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (Q, Q): True where two of the clips at ``rows`` are of one track."""
        tracks = self.tracks[rows]
        same: NDArray[np.bool_] = tracks[:, None] == tracks[None, :]
        return same


def split_examples(
    manifest: Sequence[dict[str, Any]],
    split: Literal["train", "val"],
    stores: Mapping[Modality, FeatureStore],
    annotations: FeatureStore,
    least: int,
    described: float,
    seed: int,
) -> Examples:
    """Return the clips of a split that have video and music.

    Args:
        manifest: every clip.
        split: whose clips.
        stores: video, music, and the captions as text.
        annotations: text features of human descriptions.
        least: fewest clips that are worth a fit.
        described: share of the described clips that show their description and not their caption, 0 to 1.
        seed: of which these are.

    Raises:
        TooFewClips: fewer than ``least``, or all of one track: none can be told from another.
        ValueError: captions and descriptions come from different text extractors.
    """
    if stores[TEXT].digest != annotations.digest:
        raise ValueError(
            f"{stores[TEXT].folder} and {annotations.folder} come from different text extractors; "
            "run features again for both"
        )
    rows = with_video_and_music(rows_of_split(manifest, split), stores)
    if len(rows) < least:
        raise TooFewClips(f"{len(rows)} {split} clips have video and music, a baseline needs {least}; add media")
    tracks = np.unique([row["track_id"] for row in rows], return_inverse=True)[1].astype(np.int64)
    if not tracks.any():
        raise TooFewClips(f"all {len(rows)} {split} clips with video and music are of one track; add other tracks")
    text = EitherText(annotations, stores[TEXT], described, seed)
    sources: dict[Modality, Gathers] = {VIDEO: stores[VIDEO], MUSIC: stores[MUSIC], TEXT: text}
    return Examples(sources, [row["clip_id"] for row in rows], tracks)


def pooled(source: Gathers, ids: Sequence[str], spread: bool) -> NDArray[np.float64]:
    """Return the mean (N, D) of each clip's valid segments; with ``spread`` their standard deviation too (N, 2 D)."""
    given = source.gather(ids)
    return np.hstack([segment_mean(*given), segment_spread(*given)]) if spread else segment_mean(*given)


def log_rank(scores: NDArray[np.float32], positives: NDArray[np.bool_]) -> float:
    """Return the mean logarithm of the ranks, lower is better: what baselines are chosen by on validation.

    It weighs the top of the list without hanging on few queries, as a recall of a small pool would.
    """
    return float(np.log(ranks(scores, positives)).mean())
