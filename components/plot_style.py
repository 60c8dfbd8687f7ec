"""One look for every plot, that of the pages: colours by query mode, thin axes, no metadata that changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

# Okabe-Ito: told apart by colour-blind readers too.
COLOURS: Final = {"video": "#0072B2", "text": "#E69F00", "video+text": "#009E73"}
LABELS: Final = {"video": "video", "text": "text", "video+text": "video + text"}
# The next four are those of pages/style.css in the light.
INK, QUIET, GRID, SUBJECT = "#1d1f24", "#8a8f99", "#eceae3", "#2456c7"
OTHER = "#CC79A7"  # another track's text

_RC: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.dpi": 130,
    "savefig.dpi": 130,
}


@contextmanager
def figure(target: Path | BinaryIO, columns: int, width: float, height: float) -> Iterator[tuple[Any, list[Any]]]:
    """Yield (figure, axes in a row), width and height in inches; write the PNG on leaving."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn, list(drawn.subplots(1, columns, squeeze=False)[0])
        drawn.savefig(target, format="png", metadata={"Software": None})


def log_ticks(axis: Any, pool: int, both: bool = False) -> None:
    """Write plain numbers from 1 to ``pool`` on a logarithmic x axis, and on the y axis for ``both``."""
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000) if k < pool / 1.4] + [
        pool
    ]
    axis.set_xticks(ticks, [str(k) for k in ticks])
    if both:
        axis.set_yticks(ticks, [str(k) for k in ticks])
    axis.minorticks_off()
