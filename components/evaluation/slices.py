"""R@10 by genre, mood, kind of text and clip length: where a model is good, and where it is not."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import cluster_weights, mean_interval
from components.evaluation.metrics_file import Mode, SliceInterval, SliceRow
from components.evaluation.params import EvaluationSection
from components.evaluation.relevance import Tags
from components.evaluation.retrieval import Ranking

GROUPS: Final = {"genre": "genres", "mood": "moods"}  # slice: group of tags
UNTAGGED: Final = "untagged"

log = logging.getLogger(__name__)


def slice_rankings(
    rankings: Mapping[Mode, Ranking],
    rows: Sequence[Mapping[str, Any]],
    tags: Tags,
    cluster: Mapping[str, str],
    section: EvaluationSection,
) -> list[SliceRow]:
    """Return one row per slice: what it is cut by, its name, size, and R@10 with interval by mode.

    Args:
        rankings: of one level and direction by mode, all of the same queries.
        rows: the manifest's.
        tags: of every clip; without any, genres and moods are no slices.
        cluster: of every clip id.
        section: least size, edges of the lengths, intervals.
    """
    by_clip = {str(row["clip_id"]): row for row in rows}
    clips = [str(clip) for clip in next(iter(rankings.values())).clips]
    labels = {by: [most_probable(tags.get(clip, ()), group) for clip in clips] for by, group in GROUPS.items() if tags}
    labels["length"] = [
        length_class(by_clip[clip]["end_s"] - by_clip[clip]["start_s"], section.length_edges_s) for clip in clips
    ]
    cut: list[SliceRow] = []
    for by, named in labels.items():
        array = np.array(named)
        sizes = {name: int((array == name).sum()) for name in sorted(set(named), key=_order)}
        large = [name for name, size in sizes.items() if size >= section.least_slice]
        if len(large) < len(sizes):
            log.info(
                "evaluation: %d of %d slices by %s have fewer than %d queries and are left out",
                len(sizes) - len(large), len(sizes), by, section.least_slice,
            )  # fmt: skip
        for name in large:
            inside = {mode: ranking.only(array == name) for mode, ranking in rankings.items()}
            cut.append(slice_row(by, name, inside, cluster, section))
    return cut


def slice_row(
    by: str, name: str, rankings: Mapping[Mode, Ranking], cluster: Mapping[str, str], section: EvaluationSection
) -> SliceRow:
    """Return the row of one slice from its rankings by mode; queries of one cluster alone have no interval."""
    clips = next(iter(rankings.values())).clips
    members = [cluster[str(clip)] for clip in clips]
    weights = cluster_weights(members, section.resamples, section.seed)
    recall: dict[Mode, SliceInterval] = {}
    for mode, ranking in rankings.items():
        hit: NDArray[np.float64] = (ranking.rank <= 10).astype(np.float64)
        mean = mean_interval(hit, weights, section.confidence)
        several = len(set(members)) > 1
        recall[mode] = SliceInterval(
            value=mean.value, low=mean.low if several else None, high=mean.high if several else None
        )
    return SliceRow(by=by, name=name, queries=len(members), clusters=len(set(members)), recall_at_10=recall)


def most_probable(tags: Sequence[Mapping[str, Any]], group: str) -> str:
    """Return the name of the group's most probable tag, the first by name among equals; or ``untagged``."""
    ranked = [(-tag["probability"], tag["name"]) for tag in tags if tag["group"] == group]
    return str(min(ranked)[1]) if ranked else UNTAGGED


def length_class(length_s: float, edges_s: Sequence[float]) -> str:
    """Return the name of the class that a length falls in; an edge belongs to the class above it."""
    place = int(np.searchsorted(np.asarray(edges_s), round(length_s, 3), side="right"))
    if not edges_s:
        return "all"
    if place == 0:
        return f"under {edges_s[0]:g} s"
    return f"{edges_s[-1]:g} s and more" if place == len(edges_s) else f"{edges_s[place - 1]:g} to {edges_s[place]:g} s"


def _order(name: str) -> tuple[bool, float, str]:
    number = name.removeprefix("under ").split(" ")[0]
    # Lengths in their order, words by the alphabet, the untagged last.
    starts = float(number) - (1e-6 if name.startswith("under ") else 0.0) if number[:1].isdigit() else 0.0
    return name == UNTAGGED, starts, name
