"""Predicted harm: what the champion's fused R@10 would be if its test clips had the window's mix of genres."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict

from components.evaluation.metrics_file import FUSED, Metrics

GROUP: Final = "genres"
NO_TAG: Final = "untagged"
CAVEAT: Final = (
    "This moves only the mix of genres and takes the recall within a genre as the test set measured it. Media that "
    "are unlike the reference within a genre, and genres that it did not have, are not foreseen: the true loss may "
    "be larger. Only described and evaluated new clips can tell."
)


class Slice(BaseModel):
    """Recall of the champion in one genre."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Most probable genre of the clip."""
    queries: int
    """Test clips."""
    recall: float
    """Fused R@10."""
    error: float
    """Its standard error."""


@dataclass(frozen=True)
class Harm:
    """What the new mix would do.

    Attributes:
        recall: fused R@10 as measured. change: expected. low, high: of the change, 95 %.
        unseen: share of the window in genres without a measured recall; they count as the mean.
    """

    recall: float
    change: float
    low: float
    high: float
    unseen: float

    def sentence(self) -> str:
        """As a person would say it."""
        return (
            f"with the window's mix of genres fused R@10 would go from {self.recall:.3f} to {self.recall + self.change:.3f} "
            f"({self.change:+.3f}, 95 % interval {self.low:+.3f} to {self.high:+.3f})"
        )


def slices_of(metrics: Metrics | None) -> tuple[float | None, tuple[Slice, ...]]:
    """Return fused R@10, overall and by genre, from the evaluation's metrics; nothing where there is no evaluation."""
    if metrics is None:
        return None, ()
    overall = metrics.track.video_to_music.get(FUSED)
    genres = []
    for row in metrics.slices:
        recall = row.recall_at_10.get(FUSED)
        if row.by == "genre" and recall is not None and recall.low is not None and recall.high is not None:
            error = (recall.high - recall.low) / (2 * 1.96)
            genres.append(Slice(name=row.name, queries=row.queries, recall=recall.value, error=error))
    return None if overall is None else overall.recall_at_10.value, tuple(genres)


def predict(
    recall: float | None,
    slices: Sequence[Slice],
    reference: Sequence[Sequence[str]],
    window: Sequence[Sequence[str]],
) -> Harm | None:
    """Return the expected change of recall; None where recall by genre is not known.

    Args:
        recall: overall.
        slices: recall by genre.
        reference: tags of the reference's clips, the most probable of a group first.
        window: tags of the window's clips.
    """
    if recall is None or not slices or not reference or not window:
        return None
    before, after = mix(reference), mix(window)
    known = {one.name: one for one in slices}
    change = sum((after[name] - before[name]) * (one.recall - recall) for name, one in known.items())
    error = math.sqrt(sum(((after[name] - before[name]) * one.error) ** 2 for name, one in known.items()))
    unseen = sum(share for name, share in after.items() if name not in known)
    return Harm(recall, change, change - 1.96 * error, change + 1.96 * error, unseen)


def mix(tags: Sequence[Sequence[str]]) -> Counter[str]:
    """Return the share of clips by their most probable genre."""
    counts: Counter[str] = Counter()
    for clip in tags:
        counts[next((tag.partition(":")[2] for tag in clip if tag.startswith(f"{GROUP}:")), NO_TAG)] += 1
    return Counter({name: count / len(tags) for name, count in counts.items()})
