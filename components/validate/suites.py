"""What the manifest promises to the stages that read it, as Great Expectations suites."""

from importlib import import_module
from typing import Any, Final

from components.tables import MANIFEST
from components.validate.columns import GROUPS
from components.validate.params import Validate

_HELPERS: Final = ("missing_media", *(f"{group}_in_several_splits" for group in GROUPS))
_OPTIONAL: Final = {field.name for field in MANIFEST if field.nullable}


def manifest_expectations(params: Validate) -> list[Any]:
    """Return the expectations on the manifest's rows, helper columns included."""
    gxe = _expectations()
    required = [field.name for field in MANIFEST if field.name not in _OPTIONAL]
    return [
        gxe.ExpectTableColumnsToMatchSet(column_set=[*MANIFEST.names, *_HELPERS], exact_match=True),
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in required),
        gxe.ExpectColumnValuesToBeUnique(column="clip_id", notes="One row is one clip."),
        gxe.ExpectColumnValuesToMatchRegex(column="clip_id", regex="^[0-9a-f]{16}$"),
        gxe.ExpectColumnValuesToBeUnique(column="sha256", notes="The same bytes must not stand twice."),
        gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex="^[0-9a-f]{64}$"),
        gxe.ExpectColumnValuesToBeUnique(column="uri"),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=["train", "val", "test"]),
        *(
            gxe.ExpectColumnValuesToBeNull(column=f"{group}_in_several_splits", notes=_disjoint(group))
            for group in GROUPS
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="missing_media", notes="Every file is there now; else its path stands here."
        ),
        gxe.ExpectColumnValuesToBeBetween(column="bytes", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="start_s", min_value=0),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="end_s", column_B="start_s"),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="duration_s", column_B="end_s", or_equal=True),
        _between("duration_s", params.duration_s.low, params.duration_s.high),
        _between("fps", params.fps.low, params.fps.high, severity="warning"),
        _between("sample_rate_hz", params.sample_rate_hz.low, params.sample_rate_hz.high, severity="warning"),
        _between("width", 1, None),
        _between("height", 1, None),
        _between("channels", 1, None),
    ]


def corpus_expectations(params: Validate) -> list[Any]:
    """Return the expectations on the one row about the corpus as a whole."""
    annotated, quarantined = params.least_annotated, params.most_quarantined
    return [
        *(_between(f"{split}_clips", params.least_clips, None) for split in ("train", "val", "test")),
        _between("quarantined_share", None, quarantined.share, severity=quarantined.severity),
        _between("annotated_test_share", annotated.share, None, severity=annotated.severity),
    ]


def _between(column: str, low: float | None, high: float | None, severity: str = "critical") -> Any:
    return _expectations().ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, severity=severity
    )


def _expectations() -> Any:
    return import_module("great_expectations.expectations")  # seconds to import, and not typed throughout


def _disjoint(group: str) -> str:
    return f"Clips of one {group} must all be in one split; else the {group}'s id stands here."
