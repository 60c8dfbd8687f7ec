"""Slices of the queries, and how the two sides differ in each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.relevance import Tags
from components.evaluation.slices import GROUPS, length_class, most_probable
from flows.gate.resampling import Difference, Resampling, estimate
from flows.gate.settings import GateSettings
from flows.gate.sides import FUSED, Queries, Side


@dataclass(frozen=True)
class Slice:
    """Queries that have something in common, and what both sides reach on them (video+text R@10).

    Attributes:
        by: what it is cut by, such as "genre".
        name: its name.
        queries: in it.
        clusters: of these.
        judged: whether it has enough of them to count for the gate.
        ours: share of hits of the challenger, and theirs: of the other.
        difference: of the two; None where it has fewer than two clusters.
        adjusted: the same with an interval that holds for all judged slices at once (Bonferroni).
    """

    by: str
    name: str
    queries: int
    clusters: int
    judged: bool
    ours: float
    theirs: float
    difference: Difference | None
    adjusted: Difference | None

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        values = dict(self.__dict__)
        for name in ("difference", "adjusted"):
            found: Difference | None = values[name]
            values[name] = None if found is None else found.as_json()
        return values


def labels_of(
    rows: list[dict[str, Any]], tags: Tags, length_edges_s: tuple[float, ...]
) -> dict[str, tuple[str | None, ...]]:
    """Return the slice names of clips by what they are cut by, as the evaluation cuts them."""
    found: dict[str, tuple[str | None, ...]] = {}
    for by, group in GROUPS.items():
        if tags:
            found[by] = tuple(most_probable(tags.get(row["clip_id"], ()), group) for row in rows)
    found["length"] = tuple(length_class(row["end_s"] - row["start_s"], length_edges_s) for row in rows)
    return found


def masks(queries: Queries) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Return (Q,) by (what it is cut by, name); one slice of everything is no slice."""
    found = {}
    for by, names in queries.labels.items():
        known = sorted({name for name in names if name is not None})
        if len(known) > 1:
            for name in known:
                found[by, name] = np.array([own == name for own in names])
    return found


def differences(
    queries: Queries, ours: Side, theirs: Side, resampling: Resampling, settings: GateSettings
) -> tuple[list[Slice], Difference | None]:
    """Return every slice, and the difference between the worst-served slices; None where none is judged.

    The latter is R@10 of ours in the slice it serves worst less that of theirs in the slice it serves worst. In
    each resample both take their own minimum, so what a minimum of noisy figures loses is lost on both sides.
    """
    cut = masks(queries)
    if not cut:
        return [], None
    keys, counted = list(cut), np.stack(list(cut.values()), axis=1)  # (Q, S)
    sizes, spread = counted.sum(axis=0), [len(set(np.asarray(queries.clusters)[mask])) for mask in cut.values()]
    judged = np.array([size >= settings.least_slice and many > 1 for size, many in zip(sizes, spread, strict=True)])
    at_once = 1 - (1 - settings.confidence) / max(1, int(judged.sum()))
    hits = [np.broadcast_to(side.hits(FUSED)[:, None], counted.shape) for side in (ours, theirs)]
    own, other = ((hit & counted).sum(axis=0) / sizes for hit in hits)  # (S,)
    drawn_own, drawn_other = (resampling.shares(hit, counted) for hit in hits)  # (R, S)
    apart = drawn_own - drawn_other
    found = []
    for at, key in enumerate(keys):

        def between(confidence: float, at: int = at) -> Difference:
            return estimate(float(own[at] - other[at]), apart[:, at], confidence, int(sizes[at]))

        found.append(
            Slice(
                *key, int(sizes[at]), spread[at], bool(judged[at]), float(own[at]), float(other[at]),
                between(settings.confidence) if spread[at] > 1 else None,
                between(at_once) if judged[at] else None,
            )
        )  # fmt: skip
    if not judged.any():
        return found, None
    worst = np.nanmin(drawn_own[:, judged], axis=1) - np.nanmin(drawn_other[:, judged], axis=1)
    value = float(own[judged].min() - other[judged].min())
    return found, estimate(value, worst, settings.confidence, int(counted[:, judged].any(axis=1).sum()))
