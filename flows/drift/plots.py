"""Small pictures for the page, as inline SVG: no script, no file beside it."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.pages import svg
from components.pages.svg import Piece

_WIDTH: Final = 320
_HEIGHT: Final = 190
_EDGE: Final = 12
_POINTS: Final = 500
"""Dots of each side, at most."""
_BINS: Final = 28


def scatter(reference: NDArray[np.float32], window: NDArray[np.float32], title: str) -> Piece:
    """Draw two (N, 2) clouds: old clips behind, new ones in front."""
    both = np.concatenate([reference, window])
    low, high = np.percentile(both, 0.5, axis=0), np.percentile(both, 99.5, axis=0)
    place = np.clip((both - low) / np.maximum(high - low, 1e-9), 0, 1)
    x = _EDGE + place[:, 0] * (_WIDTH - 2 * _EDGE)
    y = _HEIGHT - _EDGE - place[:, 1] * (_HEIGHT - 2 * _EDGE)
    old = np.arange(len(reference))[:: max(1, len(reference) // _POINTS)]
    new = len(reference) + np.arange(len(window))[:: max(1, len(window) // _POINTS)]
    dots = [svg.dot("baseline dot", x[at], y[at], 2.2) for at in old]
    dots += [svg.dot("subject dot", x[at], y[at], 2.4) for at in new]
    return svg.drawing(_WIDTH, _HEIGHT, dots, title)


def densities(reference: NDArray[np.float32], window: NDArray[np.float32], title: str) -> Piece:
    """Draw two (N,) columns as histograms over the same bins, each of area one."""
    low, high = np.percentile(np.concatenate([reference, window]), [0.5, 99.5])
    if low == high:
        low, high = low - 1, high + 1
    edges = np.linspace(low, high, _BINS + 1)
    shares = [np.histogram(np.clip(side, low, high), edges)[0] / len(side) for side in (reference, window)]
    top = max(one.max() for one in shares)
    shapes = [
        svg.area(f"{kind} area", _steps(one / top))
        for one, kind in zip(shares, ("baseline", "subject"), strict=True)
    ]  # fmt: skip
    floor = _HEIGHT - _EDGE
    return svg.drawing(_WIDTH, _HEIGHT, [*shapes, svg.line("zero", _EDGE, _WIDTH - _EDGE, floor, floor)], title)


def bars(rows: Sequence[tuple[str, float, float]], title: str) -> Piece:
    """Draw one row for each (name, share in the reference, share in the window)."""
    top = max((max(old, new) for _, old, new in rows), default=1.0) or 1.0
    left, width, step = 130, 400, 32
    pieces = []
    for number, (name, old, new) in enumerate(rows):
        y = 6 + number * step
        pieces.append(svg.text(left - 10, y + 15, name, "name", "end"))
        for share, kind, below in ((new, "subject", 0), (old, "baseline", 11)):
            length = share / top * (width - left - 45)
            pieces.append(svg.bar(kind, left, y + below, length, 9))
            pieces.append(svg.text(left + length + 6, y + below + 8.5, f"{share:.0%}", "tick"))
    return svg.drawing(width, 12 + step * len(rows), pieces, title)


def _steps(heights: NDArray[np.float64]) -> Iterator[tuple[float, float]]:
    """Yield the corners of a histogram (bins,) of heights up to 1, from the floor to the floor."""
    floor, broad = _HEIGHT - _EDGE, (_WIDTH - 2 * _EDGE) / len(heights)
    yield _EDGE, floor
    for at, height in enumerate(heights):
        y = floor - height * (_HEIGHT - 2 * _EDGE)
        yield _EDGE + at * broad, y
        yield _EDGE + (at + 1) * broad, y
    yield _WIDTH - _EDGE, floor
