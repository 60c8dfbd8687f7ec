"""Which test clips are ranked, and whose words describe them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.evaluation.params import EvaluationSection
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.store import FeatureStore

TextSource = Literal["annotation", "caption", "none"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """The clips that are both queries and gallery.

    Attributes:
        rows: manifest rows, by clip id.
        text_source: where the texts come from; ``none`` leaves the text modes out.
        stores: features of the modalities at hand.
    """

    rows: list[dict[str, Any]]
    text_source: TextSource
    stores: dict[Modality, FeatureStore]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        """Return the clip ids in order."""
        return [row["clip_id"] for row in self.rows]

    def same_track(self) -> NDArray[np.bool_]:
        """Return (N, N): True where two clips are of one track."""
        tracks = np.array([row["track_id"] for row in self.rows])
        same: NDArray[np.bool_] = tracks[:, None] == tracks[None, :]
        return same


def choose_pool(
    manifest: Sequence[dict[str, Any]],
    stores: Mapping[Modality, FeatureStore],
    annotations: FeatureStore,
    section: EvaluationSection,
) -> Pool:
    """Take the annotated test clips; without any annotation, the captioned ones; else all.

    Args:
        manifest: every clip.
        stores: video, music, and the captions as text.
        annotations: text features of human descriptions.
        section: pool size, seed, least clips.

    Raises:
        ValueError: fewer than ``section.least_test_clips`` are left.
    """
    rows = sorted((row for row in manifest if row["split"] == "test"), key=lambda row: row["clip_id"])
    whole = [row for row in rows if row["clip_id"] in stores[VIDEO] and row["clip_id"] in stores[MUSIC]]
    if len(whole) < len(rows):
        log.info(
            "evaluation: %d of %d test clips lack video or music features and are left out",
            len(rows) - len(whole),
            len(rows),
        )
    source: TextSource = "none"
    kept = whole
    candidates: tuple[tuple[TextSource, FeatureStore], ...] = (("annotation", annotations), ("caption", stores[TEXT]))
    for name, texts in candidates:
        described = [row for row in whole if row["clip_id"] in texts]
        if described:
            source, kept = name, described
            break
    if len(kept) < section.least_test_clips:
        raise ValueError(
            f"{len(kept)} usable test clips (text: {source}), evaluation.least_test_clips asks for {section.least_test_clips}; "
            f"add media or annotations, or change the shares of the splits in section ingest ({len(manifest)} clips in all)"
        )
    if section.pool_size is not None and len(kept) > section.pool_size:
        drawn = np.random.default_rng(section.seed).choice(len(kept), section.pool_size, replace=False)
        kept = [kept[at] for at in sorted(drawn)]
    elif section.pool_size is not None and len(kept) < section.pool_size:
        log.info("evaluation: pool_size %d is more than the %d test clips; using all", section.pool_size, len(kept))
    features: dict[Modality, FeatureStore] = {VIDEO: stores[VIDEO], MUSIC: stores[MUSIC]}
    if source != "none":
        features[TEXT] = annotations if source == "annotation" else stores[TEXT]
    return Pool(kept, source, features)
