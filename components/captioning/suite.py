"""What captions promise to the stages that read them, as Great Expectations suites."""

import logging
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from components.captioning.captioner import FALLBACK, NO_TAGS, OK
from components.captioning.params import QualityParams

PUBLISHED: Final = (OK, FALLBACK, NO_TAGS)  # verdicts of captions that are used

_CRITICAL, _WARNING = "critical", "warning"
_SHOWN: Final = 5  # offending clips in the results


def check_captions(
    rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Any], limits: QualityParams
) -> dict[str, Any]:
    """Check captions one by one and as a set; equal input gives equal results.

    Args:
        rows: one per published caption: clip_id, text, words, verdict, contradictions (count), leaks (count).
        figures: yield, recall (mean), largest_cluster; None where there is no caption.
        limits: what is good enough.

    Returns:
        passed (nothing critical failed) and per suite the expectations: what, column, arguments, severity,
        success, count of offending rows and some of their clips.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read on import
    logging.disable(logging.INFO)  # hundreds of lines about the library's own workings
    try:
        checked = _check(rows, figures, limits)
    finally:
        logging.disable(logging.NOTSET)
    failed = [row["severity"] for suite in checked.values() for row in suite if not row["success"]]
    return {"passed": _CRITICAL not in failed, "warnings": failed.count(_WARNING), "suites": checked}


def _check(
    rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Any], limits: QualityParams
) -> dict[str, list[dict[str, Any]]]:
    import great_expectations as gx
    import pandas as pd

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("captions")
    columns = ["clip_id", "text", "words", "verdict", "contradictions", "leaks"]
    suites = {
        "captions": (pd.DataFrame(list(rows), columns=columns), _caption_expectations(limits)),
        "collection": (pd.DataFrame([dict(figures)], dtype=float), _collection_expectations(limits)),
    }
    checked = {}
    for name, (table, expectations) in suites.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        index = {"unexpected_index_column_names": ["clip_id"]} if "clip_id" in table else {}
        result = definition.run(
            batch_parameters={"dataframe": table}, result_format={"result_format": "COMPLETE", **index}
        )
        checked[name] = [_outcome(item) for item in result.to_json_dict()["results"]]
    return checked


def _caption_expectations(limits: QualityParams) -> list[Any]:
    gxe = _expectations()
    return [
        gxe.ExpectColumnValuesToBeUnique(column="clip_id", severity=_CRITICAL),
        gxe.ExpectColumnValuesToBeInSet(column="verdict", value_set=list(PUBLISHED), severity=_CRITICAL),
        gxe.ExpectColumnValuesToNotBeNull(column="text", severity=_CRITICAL),
        _between("contradictions", None, 0, _CRITICAL),
        _between("leaks", None, 0, _CRITICAL),
        _between("words", limits.min_words, limits.max_words, _WARNING),
    ]


def _collection_expectations(limits: QualityParams) -> list[Any]:
    return [
        _between("recall", limits.min_recall, None, _WARNING),
        _between("yield", limits.least_yield, None, _WARNING),
        _between("largest_cluster", None, limits.max_cluster, _WARNING),
    ]


def _between(column: str, low: float | None, high: float | None, severity: str) -> Any:
    return _expectations().ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, severity=severity
    )


def _expectations() -> Any:
    return import_module("great_expectations.expectations")  # seconds to import, and not typed throughout


def _outcome(item: Mapping[str, Any]) -> dict[str, Any]:
    config, found = item["expectation_config"], item["result"]
    arguments = {key: value for key, value in config["kwargs"].items() if key not in ("batch_id", "column")}
    offending = [each for each in found.get("unexpected_index_list") or [] if isinstance(each, dict)]
    return {
        "expectation": config["type"],
        "column": config["kwargs"]["column"],
        "arguments": arguments,
        "severity": config["severity"],
        "success": bool(item["success"]),
        "unexpected_count": found.get("unexpected_count", 0),
        "clips": sorted({str(each["clip_id"]) for each in offending})[:_SHOWN],
    }
