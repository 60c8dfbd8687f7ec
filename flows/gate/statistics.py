"""Paired differences of R@10 on the same queries, what follows from an interval, and the same in slices.

Queries of one artist are alike, so artists (clusters) are the pieces of evidence, and there may be few of them. An
interval's ends are order statistics of the figure over subsets of clusters, each cluster in or out with probability
1/2 (typical values: J. A. Hartigan, Using Subsample Values as Typical Values, JASA 64, 1969). It holds just those
differences that a randomisation test, which lets the two sides change places in whole clusters, would not reject: so
two equal models pass as different at most as often as the confidence says, with any number of clusters of any size,
where a bootstrap of 2 to 8 clusters errs two to ten times as often. Below `least_clusters` the interval is everything.

What follows from an interval: shown, shown not to be, or not enough data to tell.

question                    passed                              failed           inconclusive
better by at least m        low > 0 and value >= m              high < m         else
worse by at most m          low > -m                            high < -m        else
at least a floor f          low >= f                            high < f         else

verdict                     every check passed                  any check failed else

Shapes: Q queries, K clusters, R subsets, V columns (systems, slices), S slices.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.metrics_file import FUSED, Interval
from components.evaluation.relevance import Tags
from components.evaluation.slices import GROUPS, length_class, most_probable
from flows.gate.report import Difference, Outcome, Slice
from flows.gate.settings import GateSettings
from flows.gate.sides import Queries, Side

Hits = NDArray[np.bool_]


def least_clusters(confidence: float) -> int:
    """Return how many clusters an interval takes that is not everything: the only subset beyond its end must be rare.

    >>> least_clusters(0.95)  # 1 of 2^6 subsets is less than 2.5 %
    6
    """
    return math.ceil(-math.log2((1 - confidence) / 2))


class Resampling:
    """Subsets of clusters, shared by every comparison on these queries."""

    def __init__(self, clusters: Sequence[str], resamples: int, seed: int) -> None:
        """Take every subset but the empty one where they are at most ``resamples``, else so many at random."""
        names, self._member = np.unique(np.asarray(clusters), return_inverse=True)
        self.clusters = len(names)
        every = 2**self.clusters - 1
        if every <= resamples:
            self._drawn = ((np.arange(1, every + 1)[:, None] >> np.arange(self.clusters)) & 1).astype(np.float32)
        else:
            random = np.random.default_rng(seed)
            self._drawn = random.integers(0, 2, (resamples, self.clusters)).astype(np.float32)  # (R, K)

    def shares(self, hits: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the share of hits among counted queries in each subset (R, V); NaN where none is in it.

        Args:
            hits: (Q, V).
            counted: (Q, V), which queries count for which column.
        """
        # Sums stay below 2^24, where float32 counts exactly.
        part, whole = self._drawn @ self._totals(hits & counted), self._drawn @ self._totals(counted)
        with np.errstate(invalid="ignore"):
            share: NDArray[np.float64] = part.astype(np.float64) / whole
        return share

    def _totals(self, values: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the sums (K, V) per cluster of values (Q, V)."""
        totals = np.zeros((self.clusters, values.shape[1]), np.float32)
        np.add.at(totals, self._member, values)
        return totals

    def share(self, hits: Hits, confidence: float) -> Difference:
        """Return one system's share of hits (Q,)."""
        drawn = self.shares(hits[:, None], np.ones((len(hits), 1), np.bool_))[:, 0]
        return estimate(float(hits.mean()), drawn, confidence, len(hits), least=0.0)

    def difference(self, ours: Hits, theirs: Hits, confidence: float) -> Difference:
        """Return the share of hits of ours less that of theirs (Q,)."""
        drawn = self.shares(np.stack([ours, theirs], axis=1), np.ones((len(ours), 2), np.bool_))
        return estimate(float(ours.mean() - theirs.mean()), drawn[:, 0] - drawn[:, 1], confidence, len(ours))


def estimate(
    value: float, drawn: NDArray[np.float64], confidence: float, queries: int, least: float = -1.0
) -> Difference:
    """Return a value with its interval and its standard error.

    Args:
        value: over all clusters.
        drawn: the same over subsets of them (R,); NaN where a subset has no queries, which speaks for neither end.
        confidence: of the two-sided interval.
        queries: that it rests on.
        least: the least that it can be, and so the end of an interval that rests on too few clusters; the most is 1.

    >>> means = np.array([0.1, 0.2, 0.3, 0.2, 0.2, 0.25, 0.15])  # subsets of three clusters: 0.1, 0.2, 0.3
    >>> seen = estimate(0.2, means, 0.75, 30)  # beyond either end at most 1/8: the empty subset
    >>> (seen.low, seen.high)
    (0.1, 0.3)
    """
    known = np.sort(drawn[np.isfinite(drawn)])
    # As many subsets, the empty one among them, may lie beyond an end as the test may reject; the small term is for
    # a product such as 0.025 x 40 that is meant to be whole.
    beyond = math.floor((1 - confidence) / 2 * (len(drawn) + 1) + 1e-9) - (len(drawn) - len(known))
    low, high = (float(known[beyond - 1]), float(known[-beyond])) if beyond > 0 else (least, 1.0)
    error = float(known.std()) if len(known) else 0.0
    return Difference(value=value, low=low, high=high, error=error, queries=queries)


def superiority(difference: Difference, minimum: float) -> Outcome:
    """Tell whether a difference is above 0 and as large as ``minimum``."""
    if difference.low > 0 and difference.value >= minimum:
        return "passed"
    return "failed" if difference.high < minimum else "inconclusive"


def non_inferiority(difference: Difference, margin: float) -> Outcome:
    """Tell whether a difference is above ``-margin``."""
    if difference.low > -margin:
        return "passed"
    return "failed" if difference.high < -margin else "inconclusive"


def floor(share: Difference, least: float) -> Outcome:
    """Tell whether a share is at least ``least``."""
    if share.low >= least:
        return "passed"
    return "failed" if share.high < least else "inconclusive"


def slowdown(ours: NDArray[np.float64], theirs: NDArray[np.float64], confidence: float) -> Interval | None:
    """Return by which share ours takes longer: the median over rounds of the ratio, less 1, with its interval.

    The interval's ends are order statistics of the ratios (the sign test turned round), so that a few rounds in which
    something else kept the machine busy move nothing.

    Args:
        ours: times (R,) in any unit, measured in turns with theirs on the same queries.
        theirs: times (R,).
        confidence: of the two-sided interval.

    Returns:
        None where the rounds are so few that no order statistic lies far enough out.
    """
    from scipy.stats import quantile_test

    ratios = ours / theirs - 1
    ends = quantile_test(ratios, p=0.5).confidence_interval(confidence)
    if math.isnan(ends.low) or math.isnan(ends.high):
        return None
    return Interval(value=float(np.median(ratios)), low=float(ends.low), high=float(ends.high))


def not_slower(measured: Sequence[Interval | None], together: Interval | None, limit: float) -> Outcome:
    """Tell whether a slowdown is at most ``limit``: a miss counts when it was shown in two measurements.

    Args:
        measured: each measurement by itself.
        together: all rounds of them.
        limit: share.
    """
    if together is not None and together.high <= limit:
        return "passed"
    shown = [one is not None and one.low > limit for one in measured]
    return "failed" if len(shown) > 1 and all(shown) else "inconclusive"


def at_most(figure: float, limit: float) -> Outcome:
    """Tell whether a figure that has no interval is at most ``limit``."""
    return "passed" if figure <= limit else "failed"


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """Put the checks together."""
    seen = set(outcomes)
    if "failed" in seen:
        return "failed"
    return "inconclusive" if "inconclusive" in seen else "passed"


def detectable(error: float, confidence: float, power: float, minimum: float) -> float:
    """Return the smallest true difference that `superiority` finds with probability ``power``.

    The interval's low end must come to lie above 0, which takes (z of the confidence + z of the power)
    standard errors, and the value at ``minimum`` or above, which takes z of the power above it.

    >>> round(detectable(0.01, 0.95, 0.8, 0.01), 4)  # (1.960 + 0.842) x 0.01
    0.028
    """
    normal = NormalDist()
    reach = normal.inv_cdf(power)
    return max((normal.inv_cdf(0.5 + confidence / 2) + reach) * error, minimum + reach * error)


def queries_for(effect: float, difference: Difference, confidence: float, power: float) -> int:
    """Return how many such queries it takes to find a true difference of ``effect`` with probability ``power``."""
    normal = NormalDist()
    per_query = difference.error * math.sqrt(difference.queries)  # an error falls with the root of the queries
    wanted = (normal.inv_cdf(0.5 + confidence / 2) + normal.inv_cdf(power)) * per_query / effect
    return max(2, round(wanted * wanted))


def labels_of(
    rows: list[dict[str, Any]], tags: Tags, length_edges_s: tuple[float, ...]
) -> dict[str, tuple[str | None, ...]]:
    """Return the slice names of clips by what they are cut by, as the evaluation cuts them."""
    labels: dict[str, tuple[str | None, ...]] = {}
    for by, group in GROUPS.items():
        if tags:
            labels[by] = tuple(most_probable(tags.get(row["clip_id"], ()), group) for row in rows)
    labels["length"] = tuple(length_class(row["end_s"] - row["start_s"], length_edges_s) for row in rows)
    return labels


def slice_masks(queries: Queries) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Return (Q,) by (what it is cut by, name); one slice of everything is no slice."""
    cut = {}
    for by, names in queries.labels.items():
        known = sorted({name for name in names if name is not None})
        if len(known) > 1:
            for name in known:
                cut[by, name] = np.array([own == name for own in names])
    return cut


def slice_differences(
    queries: Queries, ours: Side, theirs: Side, resampling: Resampling, settings: GateSettings
) -> tuple[list[Slice], Difference | None]:
    """Return every slice, and the difference between the worst-served slices; None where none is judged.

    The latter is R@10 of ours in the slice it serves worst less that of theirs in the slice it serves worst. In
    each subset both take their own minimum, so what a minimum of noisy figures loses is lost on both sides.
    """
    cut, enough = slice_masks(queries), least_clusters(settings.confidence)
    if not cut:
        return [], None
    keys, counted = list(cut), np.stack(list(cut.values()), axis=1)  # (Q, S)
    sizes, spread = counted.sum(axis=0), [len(set(np.asarray(queries.clusters)[mask])) for mask in cut.values()]
    judged = np.array(
        [size >= settings.least_slice and many >= enough for size, many in zip(sizes, spread, strict=True)]
    )
    at_once = 1 - (1 - settings.confidence) / max(1, int(judged.sum()))
    hits = [np.broadcast_to(side.hits(FUSED)[:, None], counted.shape) for side in (ours, theirs)]
    own, other = ((hit & counted).sum(axis=0) / sizes for hit in hits)  # (S,)
    drawn_own, drawn_other = (resampling.shares(hit, counted) for hit in hits)  # (R, S)
    apart = drawn_own - drawn_other
    slices = []
    for at, (by, name) in enumerate(keys):

        def between(confidence: float, at: int = at) -> Difference:
            return estimate(float(own[at] - other[at]), apart[:, at], confidence, int(sizes[at]))

        slices.append(
            Slice(
                by=by,
                name=name,
                queries=int(sizes[at]),
                clusters=spread[at],
                judged=bool(judged[at]),
                ours=float(own[at]),
                theirs=float(other[at]),
                difference=between(settings.confidence) if spread[at] >= enough else None,
                adjusted=between(at_once) if judged[at] else None,
            )
        )
    if not judged.any():
        return slices, None
    # A judged slice that a subset has nothing of is passed over, on both sides alike.
    lowest = [
        np.min(drawn[:, judged], axis=1, initial=1.0, where=np.isfinite(drawn[:, judged]))
        for drawn in (drawn_own, drawn_other)
    ]
    worst = np.where(np.isfinite(drawn_own[:, judged]).any(axis=1), lowest[0] - lowest[1], np.nan)
    value = float(own[judged].min() - other[judged].min())
    return slices, estimate(value, worst, settings.confidence, int(counted[:, judged].any(axis=1).sum()))
