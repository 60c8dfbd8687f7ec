"""Intervals as inline SVG: colours come from the page's style, so that light and dark both read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 960
_ROW, _TOP, _FOOT = 30, 30, 26  # px


@dataclass(frozen=True)
class Panel:
    """A stretch of the drawing with an axis.

    Attributes:
        left: and right: px.
        low: and high: of the axis, shares.
        signed: ticks show a sign.
    """

    left: float
    right: float
    low: float
    high: float
    signed: bool = False

    def x(self, value: float) -> float:
        """Return the place of a value, in px."""
        kept = min(max(value, self.low), self.high)
        return self.left + (kept - self.low) / (self.high - self.low) * (self.right - self.left)

    def axis(self, top: float, bottom: float) -> Iterator[str]:
        """Yield grid lines and their numbers, in per cent or points."""
        for tick in ticks(self.low, self.high):
            kind = "zero" if self.signed and abs(tick) < 1e-9 else "grid"
            at = self.x(tick)
            yield f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
            number = f"{100 * tick:+g}" if self.signed and abs(tick) > 1e-9 else f"{100 * tick:g}"
            yield label(at, bottom + 17, number if self.signed else f"{number}%", "tick", "middle")


def panel(left: float, right: float, values: Iterable[float], signed: bool = False) -> Panel:
    """Return a panel that holds all values with a little room; a signed one holds 0 in any case."""
    known = [*values, *([0.0] if signed else [])]
    low, high = min(known), max(known)
    room = max(0.08 * (high - low), 0.01)
    return Panel(left, right, low - room if signed else max(0.0, low - room), high + room, signed)


def ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers between the ends."""
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        first = -(-low // step)
        count = int((high - first * step) / step + 1e-9) + 1
        if count <= 8:
            return [round((first + at) * step, 6) for at in range(count)]
    return [low, high]


def bar(panel: Panel, y: float, value: float, low: float, high: float, kind: str) -> str:
    """Return an interval with its value; ``kind`` is the class that colours it."""
    left, right = panel.x(low), panel.x(high)
    return (
        f'<g class="{kind}"><rect class="bar" x="{left:.1f}" y="{y - 5:.1f}" width="{max(1.0, right - left):.1f}" '
        f'height="10" rx="5"/><circle cx="{panel.x(value):.1f}" cy="{y:.1f}" r="5.5"/></g>'
    )


def mark(panel: Panel, value: float, top: float, bottom: float) -> str:
    """Return a dashed line at a limit."""
    at = panel.x(value)
    return f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'


def label(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """Return words."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def drawing(height: float, parts: Sequence[str], title: str) -> str:
    """Return the whole, with a title for those who do not see it."""
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">{body}</svg>'


def between(value: float, low: float, high: float) -> str:
    """Return an interval as words, in points."""
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
