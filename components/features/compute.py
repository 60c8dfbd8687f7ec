"""Bring one store up to date with its sources."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components import stage
from components.features.extractor import Extractor
from components.features.source import Source
from components.increments import Report, update_store


def require_passed(verdict: Path) -> None:
    """Stop unless validation passed.

    Raises:
        ValueError: it did not, or the file is not a verdict.
    """
    try:
        passed = json.loads(verdict.read_text(encoding="utf-8"))["passed"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{verdict}: not a verdict; run the validate stage again") from None
    if passed is not True:
        raise ValueError(f"{verdict}: validation did not pass; read its results before computing features")


class ConstantError(ValueError):
    """Features that are one number all over: nothing can be told by them."""

    reason = "constant"


def update_features(sources: Sequence[Source], extractor: Extractor, folder: Path, shard_rows: int) -> Report:
    """Compute the features that are missing, drop those no longer wanted.

    Raises:
        ValueError: every single source was refused; one reason is told.
    """
    by_id = {source.clip_id: source for source in sources}

    def compute(clip_ids: list[str]) -> Iterator[tuple[str, Any]]:
        results = extractor.extract([by_id[clip_id] for clip_id in clip_ids])
        for clip_id, result in stage.progress(results, f"features {folder.name}", len(clip_ids)):
            yield clip_id, _refused(result) or result

    rows = ((source.clip_id, source.key) for source in sources)
    return update_store(folder, extractor.spec(), rows, compute, shard_rows)


def _refused(result: NDArray[Any] | Exception) -> ConstantError | None:
    if isinstance(result, Exception) or not np.isfinite(result).all() or np.ptp(result) > 0:
        return None  # numbers that are not finite are refused by the store
    return ConstantError(f"every feature is {result.flat[0]:g}")


def quarantine_rows(report: Report, sources: Sequence[Source]) -> list[dict[str, str]]:
    """Return the refused sources as rows of the quarantine table."""
    names = {source.clip_id: source.name for source in sources}
    return [
        {"uri": names[clip_id], "stage": "features", "reason": reason, "detail": detail}
        for clip_id, reason, detail in report.refused
    ]
