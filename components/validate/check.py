"""Run the suites and put what they found into plain, reproducible values."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components.validate.columns import corpus_row, with_helpers
from components.validate.docs import PAGE, SHOWN, write_docs
from components.validate.params import Validate

if TYPE_CHECKING:
    import pandas as pd

_NOISE: Final = ("batch_id", "id")

log = logging.getLogger(__name__)


def validate(
    manifest: "pd.DataFrame", quarantine: "pd.DataFrame", annotations: "pd.DataFrame", params: Validate, docs: Path
) -> dict[str, Any]:
    """Check the three tables, write the HTML page into the folder ``docs``, and return the results.

    Equal tables and parameters give equal results and an equal page, byte for byte.

    Returns:
        passed (no critical expectation failed), suite (digest of what was expected), and per suite the
        expectations with severity, outcome, count of offending rows and some of their values.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read on import
    logging.disable(logging.INFO)  # hundreds of lines about the library's own workings
    try:
        return _validate(manifest, quarantine, annotations, params, docs)
    finally:
        logging.disable(logging.NOTSET)


def _validate(
    manifest: "pd.DataFrame", quarantine: "pd.DataFrame", annotations: "pd.DataFrame", params: Validate, docs: Path
) -> dict[str, Any]:
    import great_expectations as gx

    from components.validate.suites import corpus_expectations, manifest_expectations

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("needledrop")
    suites = {
        "manifest": (with_helpers(manifest), manifest_expectations(params), ["uri"]),
        "corpus": (corpus_row(manifest, quarantine, annotations), corpus_expectations(params), []),
    }
    checked: dict[str, list[dict[str, Any]]] = {}
    results: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    for name, (table, expectations, index) in suites.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        result = definition.run(
            batch_parameters={"dataframe": table},
            result_format={"result_format": "SUMMARY", "unexpected_index_column_names": index},
        )
        checked[name] = [_outcome(item) for item in result.to_json_dict()["results"]]
        results[name] = list(zip(result.results, checked[name], strict=True))
    write_docs(docs, results)
    expected = {name: [{k: row[k] for k in _EXPECTED} for row in rows] for name, rows in checked.items()}
    return {
        "passed": all(row["success"] for rows in checked.values() for row in rows if row["severity"] == "critical"),
        "suite": hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()[:16],
        "suites": checked,
    }


def refuse_if_failed(results: dict[str, Any], docs: Path) -> None:
    """Stop the run when a critical expectation failed.

    Raises:
        ValueError: names suite, expectation, column and some offending values of each.
    """
    failed: dict[str, list[str]] = {"critical": [], "warning": []}
    for suite, rows in results["suites"].items():
        for row in rows:
            if not row["success"]:
                what = f"{suite}: {row['expectation']} on {row['column']}: {_offence(row)}"
                failed.setdefault(row["severity"], []).append(what)
    count = sum(len(rows) for rows in results["suites"].values())
    log.info("validate: %d expectations, %d not met", count, sum(map(len, failed.values())))
    for what in failed["warning"]:
        log.warning("validate: warning: %s", what)
    if failed["critical"]:
        raise ValueError(f"validation failed, see {docs / PAGE}; {'; '.join(failed['critical'])}")


_EXPECTED: Final = ("expectation", "column", "arguments", "severity")


def _outcome(item: dict[str, Any]) -> dict[str, Any]:
    config, found = item["expectation_config"], item["result"]
    arguments = {key: value for key, value in config["kwargs"].items() if key not in _NOISE}
    columns = [arguments.pop(key) for key in ("column", "column_A", "column_B") if key in arguments]
    unexpected = found.get("partial_unexpected_list") or []
    errors = [error.get("exception_message") for error in _errors(item["exception_info"])]
    return {
        "expectation": config["type"],
        "column": " and ".join(columns) or "table",
        "arguments": arguments,
        "severity": config.get("severity", "critical"),
        "success": bool(item["success"]),
        "unexpected_count": found.get("unexpected_count", 0),
        "unexpected": sorted({json.dumps(value) for value in unexpected})[:SHOWN],
        "observed": found.get("observed_value"),
        "error": next((str(error).splitlines()[0] for error in errors if error), None),
    }


def _errors(info: dict[str, Any]) -> list[dict[str, Any]]:
    return [info] if "exception_message" in info else [value for value in info.values() if isinstance(value, dict)]


def _offence(row: dict[str, Any]) -> str:
    if row["error"]:
        return str(row["error"])
    if row["unexpected"]:
        return f"{row['unexpected_count']} rows, such as {', '.join(row['unexpected'])}"
    return f"found {row['observed']}"
