"""The two drawings of the page: recall by query mode, and the difference by slice."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from components.evaluation.metrics_file import FUSED, Interval, Mode
from components.pages import svg
from components.pages.svg import Piece
from flows.gate.report import GateReport
from flows.gate.sides import NAMES

_WIDTH: Final = 960  # px
_COLOURS: Final = {True: "good", False: "bad", None: "flat"}


@dataclass(frozen=True)
class Axis:
    """A lying axis of shares.

    Attributes:
        left: and right: ends, px.
        low: and high: what stands at them.
        signed: ticks show a sign, and are in points; else in per cent.
    """

    left: float
    right: float
    low: float
    high: float
    signed: bool = False

    def x(self, value: float) -> float:
        """Return the place of a value, in px; one beyond an end stands at the end."""
        kept = min(max(value, self.low), self.high)
        return self.left + (kept - self.low) / (self.high - self.low) * (self.right - self.left)

    def grid(self, top: float, bottom: float) -> Iterator[Piece]:
        """Yield grid lines with their numbers below."""
        for tick in ticks(self.low, self.high):
            at, zero = self.x(tick), abs(tick) < 1e-9
            yield svg.line("zero" if self.signed and zero else "grid", at, at, top, bottom)
            number = f"{100 * tick:+g}" if self.signed and not zero else f"{100 * tick:g}"
            yield svg.text(at, bottom + 17, number if self.signed else f"{number}%", "tick", "middle")

    def interval(self, y: float, interval: Interval, kind: str) -> Piece:
        """Return an interval with its value; ``kind`` is the class that colours it."""
        left, right = self.x(interval.low), self.x(interval.high)
        return svg.bar(f"{kind} bar", left, y - 5, right - left, 10) + svg.dot(kind, self.x(interval.value), y, 5.5)

    def limit(self, value: float, top: float, bottom: float) -> Piece:
        """Return a dashed line."""
        return svg.line("limit", self.x(value), self.x(value), top, bottom)


def axis_for(left: float, right: float, values: Iterable[float], signed: bool = False) -> Axis:
    """Return an axis that holds all values with a little room; a signed one holds 0 in any case."""
    known = [*values, *([0.0] if signed else [])]
    low, high = min(known), max(known)
    room = max(0.08 * (high - low), 0.01)
    return Axis(left, right, low - room if signed else max(0.0, low - room), high + room, signed)


def ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers between the ends."""
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        first = -(-low // step)
        count = int((high - first * step) / step + 1e-9) + 1
        if count <= 8:
            return [round((first + at) * step, 6) for at in range(count)]
    return [low, high]


def by_mode(report: GateReport) -> Piece:
    """Draw R@10 of both sides by query mode, and beside it their difference with its limit."""
    ours, other = report.challenger, report.other
    modes = [mode for mode in NAMES if mode in ours.recall]
    sides = [(ours, "subject"), (other, "baseline")] if other else [(ours, "subject")]
    recalls = [side.recall[mode] for side, _ in sides for mode in modes if mode in side.recall]
    apart, chance = report.modes, report.data.chance
    left = axis_for(150, 520 if apart else 860, [*_ends(recalls), chance])
    row, top = 62, 34
    bottom = top + row * len(modes)
    pieces = [svg.text(150, 18, "R@10: right track among the first ten", "head"), *left.grid(top, bottom)]
    right = None
    if apart:
        limits = [limit for mode in modes if (limit := _limit(report, mode)) is not None]
        right = axis_for(560, 800, [*_ends(apart.values()), *limits], signed=True)
        pieces += [svg.text(560, 18, "Difference in points", "head"), *right.grid(top, bottom)]
    pieces.append(left.limit(chance, top, bottom))
    for at, mode in enumerate(modes):
        middle = top + row * at + row / 2
        pieces.append(svg.text(0, middle + 4, NAMES[mode], "name"))
        for nudge, (side, colour) in zip((-10, 10), sides, strict=False):
            if mode in side.recall:
                pieces.append(left.interval(middle + nudge, side.recall[mode], colour))
        if right and mode in apart:
            pieces.append(right.interval(middle, apart[mode], _COLOURS[_sign(apart[mode])]))
            if (limit := _limit(report, mode)) is not None:
                pieces.append(right.limit(limit, middle - 20, middle + 20))
            pieces.append(svg.text(_WIDTH, middle + 4, _points(apart[mode]), "figure", "end"))
    return svg.drawing(_WIDTH, bottom + 26, pieces, "R@10 by query mode with intervals")


def by_slice(report: GateReport) -> Piece | None:
    """Draw the difference in every slice, largest loss at the top of its group; None where none has one."""
    known = [(one, one.difference) for one in report.slices if one.difference]
    if not known:
        return None
    # A slice of four queries may be anywhere: the axis is for those that count.
    counted = [difference for one, difference in known if one.judged] or [difference for _, difference in known]
    axis = axis_for(300, 690, _ends(counted), signed=True)
    y, rows = 26.0, list[Piece]()
    for by, group in groupby(known, key=lambda pair: pair[0].by):
        y += 30
        rows.append(svg.text(0, y + 4, by, "group"))
        for one, difference in sorted(group, key=lambda pair: pair[1].value):
            y += 26
            quiet = "" if one.judged else " quiet"
            rows += [
                svg.text(14, y + 4, one.name, f"name{quiet}"),
                svg.text(286, y + 4, f"{one.queries:,}", "count", "end"),
                axis.interval(y, difference, _COLOURS[_sign(difference)] if one.judged else "unjudged"),
                svg.text(796, y + 4, f"{one.theirs:.0%} to {one.ours:.0%}", "count", "end"),
                svg.text(_WIDTH, y + 4, _points(difference), f"figure{quiet}", "end"),
            ]
    bottom = y + 18
    pieces = [
        svg.text(300, 16, "Difference in points, video and text", "head"),
        svg.text(286, 16, "queries", "head", "end"),
        *axis.grid(26, bottom),
    ]
    if report.kind == "champion":
        pieces.append(axis.limit(-report.settings.margins.worst_slice, 26, bottom))
    return svg.drawing(_WIDTH, bottom + 26, [*pieces, *rows], "Difference of R@10 by slice with intervals")


def _ends(intervals: Iterable[Interval]) -> Iterator[float]:
    for interval in intervals:
        yield interval.low
        yield interval.high


def _limit(report: GateReport, mode: Mode) -> float | None:
    """Return what the interval must lie above (video+text: what the gain must reach); None without a gate."""
    if report.kind != "champion":
        return None
    margins = report.settings.margins
    return {FUSED: report.settings.minimum_effect, "video": -margins.video, "text": -margins.text}[mode]


def _sign(interval: Interval) -> bool | None:
    """Tell whether an interval lies above 0, below it, or holds it."""
    if interval.low > 0:
        return True
    return False if interval.high < 0 else None


def _points(interval: Interval) -> str:
    return f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
