"""Small pictures for the page, as inline SVG: no script, no file beside it."""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _EDGE = 320, 190, 12
_POINTS = 500  # of each side


def scatter(reference: NDArray[np.float32], window: NDArray[np.float32], label: str) -> str:
    """Two (N, 2) clouds: old clips behind, new ones in front."""
    both = np.concatenate([reference, window])
    low, high = np.percentile(both, 0.5, axis=0), np.percentile(both, 99.5, axis=0)
    place = np.clip((both - low) / np.maximum(high - low, 1e-9), 0, 1)
    x = _EDGE + place[:, 0] * (_WIDTH - 2 * _EDGE)
    y = _HEIGHT - _EDGE - place[:, 1] * (_HEIGHT - 2 * _EDGE)
    old = np.arange(len(reference))[:: max(1, len(reference) // _POINTS)]
    new = len(reference) + np.arange(len(window))[:: max(1, len(window) // _POINTS)]
    dots = "".join(f'<circle class="old" cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="2.2"/>' for i in old)
    dots += "".join(f'<circle class="new" cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="2.4"/>' for i in new)
    return _svg(dots, _WIDTH, _HEIGHT, label)


def densities(reference: NDArray[np.float32], window: NDArray[np.float32], label: str) -> str:
    """Two (N,) columns as histograms over the same bins, each of area one."""
    both = np.concatenate([reference, window])
    low, high = np.percentile(both, [0.5, 99.5])
    edges = np.linspace(low, high, 29)
    if edges[0] == edges[-1]:
        edges = np.linspace(edges[0] - 1, edges[0] + 1, 29)
    counts = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] / len(side) for side in (reference, window)]
    top = max(one.max() for one in counts)
    shapes = ""
    for one, kind in zip(counts, ("old", "new"), strict=True):
        x = _EDGE + np.repeat(np.arange(29), 2)[1:-1] / 28 * (_WIDTH - 2 * _EDGE)
        y = _HEIGHT - _EDGE - np.repeat(one / top, 2) * (_HEIGHT - 2 * _EDGE)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        floor = _HEIGHT - _EDGE
        shapes += f'<polygon class="{kind}-area" points="{_EDGE},{floor} {points} {_WIDTH - _EDGE},{floor}"/>'
    shapes += f'<line class="axis" x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{_HEIGHT - _EDGE}" y2="{_HEIGHT - _EDGE}"/>'
    return _svg(shapes, _WIDTH, _HEIGHT, label)


def bars(rows: Sequence[tuple[str, float, float]], label: str) -> str:
    """One row for each (name, share in the reference, share in the window)."""
    top = max((max(old, new) for _, old, new in rows), default=1.0) or 1.0
    left, width, step = 130, 400, 30
    shapes = ""
    for number, (name, old, new) in enumerate(rows):
        y = 6 + number * step
        shapes += f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>'
        for share, kind, offset in ((old, "old-bar", 0), (new, "new-bar", 11)):
            long = share / top * (width - left - 45)
            shapes += f'<rect class="{kind}" x="{left}" y="{y + offset}" width="{max(long, 1):.1f}" height="9" rx="2"/>'
            shapes += f'<text class="small" x="{left + long + 6:.1f}" y="{y + offset + 8.5}">{share:.0%}</text>'
    return _svg(shapes, width, 12 + step * len(rows), label)


def _svg(content: str, width: int, height: int, label: str) -> str:
    words = html.escape(label, quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{words}">{content}</svg>'
