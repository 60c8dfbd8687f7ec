"""Pieces of drawings as inline SVG: what colours them are classes of style.css, so that light and dark both read.

Coordinates are in px of the drawing, y downwards. Names are escaped by `Markup.format`.
"""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

Piece = Markup


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> Piece:
    """Return words; ``anchor`` is the end that stands at ``x``: start, middle or end."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, words)


def line(kind: str, x1: float, x2: float, y1: float, y2: float) -> Piece:
    """Return a straight line."""
    return Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(kind, x1, x2, y1, y2)


def bar(kind: str, x: float, y: float, width: float, height: float) -> Piece:
    """Return a lying bar with round ends."""
    shape = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="{:g}"/>')
    return shape.format(kind, x, y, max(1.0, width), height, height / 2)


def dot(kind: str, x: float, y: float, radius: float) -> Piece:
    """Return a disc."""
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(kind, x, y, radius)


def area(kind: str, corners: Iterable[tuple[float, float]]) -> Piece:
    """Return a polygon."""
    return Markup('<polygon class="{}" points="{}"/>').format(kind, " ".join(f"{x:.1f},{y:.1f}" for x, y in corners))


def drawing(width: float, height: float, pieces: Sequence[Piece], title: str) -> Piece:
    """Return the whole; the title is for those who do not see it."""
    frame = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>')
    return frame.format(width, height, title, Markup("").join(pieces))
