"""Which test clips are ranked, in which pools, and whose words describe them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
        captions: the captions' text features where the texts are annotations, to compare both kinds; else None.
        number: (N,) which pool each clip is in; None where all are in one, pool ``0``.
    """

    rows: list[dict[str, Any]]
    text_source: TextSource
    stores: dict[Modality, FeatureStore]
    captions: FeatureStore | None = None
    number: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        """Return the clip ids in order."""
        return [row["clip_id"] for row in self.rows]

    def same_track(self) -> NDArray[np.bool_]:
        """Return (N, N): True where two clips are of one track."""
        tracks = np.unique([row["track_id"] for row in self.rows], return_inverse=True)[1]
        same: NDArray[np.bool_] = tracks[:, None] == tracks[None, :]
        return same

    def parts(self) -> list["Pool"]:
        """Return the pools that queries are ranked in, each as one whose ``number`` is its own."""
        number = np.zeros(len(self), np.int64) if self.number is None else self.number
        return [
            replace(self, rows=[self.rows[at] for at in np.flatnonzero(number == one)], number=number[number == one])
            for one in np.unique(number)
        ]


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
        section: size and number of pools, seed, least clips.

    Raises:
        ValueError: fewer than ``section.least_test_clips`` are left.
    """
    rows = rows_of_split(manifest, "test")
    whole = with_video_and_music(rows, stores)
    lacking = ", ".join(f"{m} {sum(row['clip_id'] not in stores[m] for row in rows)}" for m in (VIDEO, MUSIC))
    if len(whole) < len(rows):
        log.info(
            "evaluation: %d of %d test clips lack video or music features and are left out (%s)",
            len(rows) - len(whole), len(rows), lacking,
        )  # fmt: skip
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
            f"{len(kept)} usable test clips (text: {source}), evaluation.least_test_clips asks for "
            f"{section.least_test_clips}; add media or annotations, or change the shares of the splits in section ingest "
            f"({len(manifest)} clips in all, {len(rows)} in test; of those without features: {lacking})"
        )
    number = _draw(len(kept), section)
    kept = [row for row, one in zip(kept, number, strict=True) if one >= 0]
    features: dict[Modality, FeatureStore] = {VIDEO: stores[VIDEO], MUSIC: stores[MUSIC]}
    if source != "none":
        features[TEXT] = annotations if source == "annotation" else stores[TEXT]
    comparable = source == "annotation" and stores[TEXT].digest == annotations.digest
    return Pool(kept, source, features, stores[TEXT] if comparable else None, number[number >= 0])


def rows_of_split(manifest: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    """Return the manifest's rows of a split, by clip id."""
    return sorted((row for row in manifest if row["split"] == split), key=lambda row: str(row["clip_id"]))


def with_video_and_music(
    rows: Sequence[dict[str, Any]], stores: Mapping[Modality, FeatureStore]
) -> list[dict[str, Any]]:
    """Return the rows whose clips have both features, in their order."""
    return [row for row in rows if row["clip_id"] in stores[VIDEO] and row["clip_id"] in stores[MUSIC]]


def _draw(clips: int, section: EvaluationSection) -> NDArray[np.int64]:
    """Return the pool number of each clip (N,), -1 for those in none."""
    size = section.pool_size
    if size is None or size >= clips:
        if size is not None and size > clips:
            log.info("evaluation: pool_size %d is more than the %d test clips; using all", size, clips)
        return np.zeros(clips, np.int64)
    fit = clips // size
    pools = fit if section.pools is None else min(section.pools, fit)
    if section.pools is not None and section.pools > fit:
        log.info("evaluation: %d pools of %d do not fit in %d test clips; using %d", section.pools, size, clips, fit)
    number = np.full(clips, -1, np.int64)
    drawn = np.random.default_rng(section.seed).permutation(clips)[: pools * size]
    number[drawn] = np.repeat(np.arange(pools), size)
    return number
