"""Hand-made rank tables: what is asked, and two systems whose hits are known one by one."""

from pathlib import Path

import numpy as np

from components.evaluation.metrics_file import MODES
from flows.gate.report import GateReport, Kind
from flows.gate.settings import SHIPPED, GateSettings, read_settings
from flows.gate.sides import Queries, Side
from flows.gate.verdict import make_report

MADE = "2026-01-02T03:04:05+00:00"


def quick(**changes: object) -> GateSettings:
    """The shipped settings with fewer resamples."""
    return read_settings(SHIPPED.parent).model_copy(update={"resamples": 1000, **changes})


def asked(count: int, pool: int = 1000, per_cluster: int = 1, **more: object) -> Queries:
    """So many queries, each artist with so many of them."""
    return Queries(
        clips=tuple(f"clip-{at:04d}" for at in range(count)),
        clusters=tuple(f"artist-{at // per_cluster:04d}" for at in range(count)),
        number=(0,) * count,
        pool=pool,
        chance=10 / pool,
        text_source="annotation",
        **more,  # type: ignore[arg-type]
    )


def side(name: str, hits: dict[str, np.ndarray], **more: object) -> Side:
    """A system that finds the right track first (rank 1) or not among ten (rank 11), as told."""
    ranks = {mode: np.where(hit, 1, 11).astype(np.int64) for mode, hit in hits.items()}
    top = {mode: np.array([f"clip-{at:04d}" for at in range(len(hit))]) for mode, hit in hits.items()}
    return Side(name, ranks, top, **more)  # type: ignore[arg-type]


def gated(queries: Queries, ours: Side, theirs: Side | None, kind: Kind, settings: GateSettings) -> GateReport:
    """The report on hand-made tables."""
    return make_report(queries, ours, theirs, kind, settings, MADE, "0" * 64)


def first(count: int, share: float) -> dict[str, np.ndarray]:
    """The same hits in every mode: the first share of the queries."""
    return dict.fromkeys(MODES, np.arange(count) < share * count)


GATE_FILE = Path(SHIPPED)
