"""The stored report: typed to read, the same bytes when written, and described by a schema."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from components.evaluation.metrics_file import FUSED
from components.stage import write_json
from flows.errors import Refusal
from flows.gate.report import GateReport, read_report, schema

from .gate_tables import asked, first, gated, quick, side

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_name("report-1.json")
"""Of the demo's first champion, as the platform wrote it before its report had types."""


def test_a_report_of_an_earlier_release_is_read_and_has_the_same_bytes_again(tmp_path: Path) -> None:
    report = read_report(STORED.read_bytes(), "version 1")
    assert (report.verdict, report.kind, report.challenger.name) == ("passed", "floors", "version 1")
    gain = report.modes[FUSED]
    assert [round(100 * share, 1) for share in (gain.value, gain.low, gain.high)] == [9.3, 5.1, 13.5]
    write_json(tmp_path / "again.json", report.as_json())
    assert (tmp_path / "again.json").read_bytes() == STORED.read_bytes(), "its digest is in the ledger"


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    queries = asked(100, labels={"mood": ("calm",) * 50 + ("loud",) * 50}, data={"clusters_by": "artist"})
    ours = side("version 2", first(100, 0.8), coverage={FUSED: 0.9}, latency_ms=np.full((1, 9), 4.0))
    theirs = side("version 1", first(100, 0.6), coverage={FUSED: 0.9}, latency_ms=np.full((1, 9), 5.0))
    report = gated(queries, ours, theirs, "champion", quick())
    write_json(tmp_path / "report.json", report.as_json())
    assert read_report((tmp_path / "report.json").read_bytes(), "it") == report
    assert "video_features" not in report.as_json()["data"], "what is not known is left out"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"needledrop.gate/1"', '"needledrop.gate/9"', "version 1: format: "),
        ('"outcome": "passed"', '"outcome": "fine"', "version 1: checks.0.outcome: "),
        ('"pool": 270', '"pools": 270', "version 1: data.pool: "),
        ("{", "", "version 1: the file: "),
    ],
)
def test_a_report_that_cannot_be_read_is_refused_by_the_name_of_the_field(old: str, new: str, says: str) -> None:
    with pytest.raises(Refusal) as refusal:
        read_report(STORED.read_text().replace(old, new, 1), "version 1")
    assert str(refusal.value).startswith(says) and "needledrop.gate/2" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_report_cannot_be_changed() -> None:
    report = read_report(STORED.read_bytes(), "version 1")
    with pytest.raises(ValidationError, match="frozen"):
        report.verdict = "failed"  # type: ignore[misc]


def test_the_schema_in_the_docs_is_that_of_the_model() -> None:
    kept = (ROOT / "docs/schemas/gate-report.json").read_text()
    assert kept == schema(), "run `python -m flows.gate.report > docs/schemas/gate-report.json`"


def test_every_field_says_what_it_is() -> None:
    definitions = schema_of(GateReport)
    assert len(definitions) > 12
    for name, definition in definitions.items():
        for field, described in definition["properties"].items():
            assert described.get("description"), f"{name}.{field}"


def schema_of(kind: type[GateReport]) -> dict[str, dict]:
    whole = kind.model_json_schema()
    return whole["$defs"] | {"GateReport": whole}
