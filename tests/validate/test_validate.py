"""The manifest's promises: a broken one stops the run by name, equal data gives equal pages."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from components.settings import ParamsError, parse_section, read_params, read_section
from components.tables import ANNOTATIONS, MANIFEST, QUARANTINE, write_rows
from components.validate.__main__ import main
from components.validate.check import refuse_if_failed, validate
from components.validate.columns import corpus_row, with_helpers
from components.validate.params import Validate

SPLITS = ("train", "train", "train", "val", "val", "test", "test", "test")


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Eight clips that keep every promise."""
    made = []
    for number, split in enumerate(SPLITS):
        media = tmp_path / f"{number}.mp4"
        media.write_bytes(b"x")
        row = dict.fromkeys(MANIFEST.names)
        row |= {"clip_id": f"{number:016x}", "sha256": f"{number:064x}", "split": split, "uri": str(media), "bytes": 1}
        row |= {
            "video_id": f"v{number}",
            "track_id": f"t{number}",
            "artist_id": f"a{number}",
            "width": 64,
            "height": 48,
        }
        row |= {"duration_s": 8.0, "start_s": 0.0, "end_s": 8.0, "fps": 25.0, "sample_rate_hz": 44100, "channels": 2}
        made.append(row)
    return made


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Path]]:
    """Write the three tables, run the stage, and return its output paths."""

    def run(
        clips: list[dict[str, Any]], quarantined: int = 0, annotated: int = 8, place: str = "out"
    ) -> dict[str, Path]:
        tables = {name: tmp_path / f"{name}.parquet" for name in ("manifest", "quarantine", "annotated")}
        refused = [{"uri": f"{n}.mp4", "stage": "ingest", "reason": "black", "detail": "-"} for n in range(quarantined)]
        refused += [{"uri": f"a.csv:{n}", "stage": "ingest", "reason": "empty_text", "detail": "-"} for n in range(50)]
        texts = [{"clip_id": clip["clip_id"], "text": "words", "line": 2} for clip in clips[len(clips) - annotated :]]
        write_rows(tables["manifest"], clips, MANIFEST, sort_by=("uri",))
        write_rows(tables["quarantine"], refused, QUARANTINE)
        write_rows(tables["annotated"], texts, ANNOTATIONS)
        outputs = {name: tmp_path / place / name for name in ("results", "docs", "verdict")}
        words = [word for name, path in {**tables, **outputs}.items() for word in (f"--{name}", str(path))]
        monkeypatch.setattr(sys, "argv", ["validate", *words])
        main()
        return outputs

    return run


def test_a_sound_manifest_passes_and_gives_the_same_bytes_again(
    rows: list[dict[str, Any]], stage: Callable[..., dict[str, Path]]
) -> None:
    files = []
    for place in ("one", "two"):
        outputs = stage(rows, place=place)
        folder = outputs["docs"].parent
        files.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert files[0] == files[1]
    assert yaml.safe_load(files[0][Path("verdict")])["passed"] is True
    assert {str(path) for path in files[0] if path.suffix == ".html"} == {"docs/index.html"}
    page = files[0][Path("docs/index.html")].decode()
    assert not re.search(r"""(src|href)=|url\(|<script""", page), "it loads nothing and runs nothing"
    assert not re.search(r"20[2-9]\d-?[01]\d-?[0-3]\dT", page), "it has no time"
    assert "All 37 expectations are met" in page and page.count("✓ holds") == 37
    assert "<code>end_s</code> must always be greater than those in <code>start_s</code>." in page


def test_a_broken_promise_stops_the_run_and_leaves_the_report(
    rows: list[dict[str, Any]], stage: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    stage(rows)
    rows[0]["clip_id"] = "not-an-id"
    rows[1]["sha256"] = rows[2]["sha256"]
    rows[3]["artist_id"] = rows[5]["artist_id"] = "the band"
    Path(rows[4]["uri"]).unlink()
    rows[6]["end_s"] = 9.0
    with pytest.raises(ValueError, match="validation failed") as error:
        stage(rows)
    for words in (
        'expect_column_values_to_match_regex on clip_id: 1 rows, such as "not-an-id"',
        f'expect_column_values_to_be_unique on sha256: 2 rows, such as "{rows[2]["sha256"]}"',
        'expect_column_values_to_be_null on artist_in_several_splits: 2 rows, such as "the band"',
        f'expect_column_values_to_be_null on missing_media: 1 rows, such as "{rows[4]["uri"]}"',
        "expect_column_pair_values_a_to_be_greater_than_b on duration_s and end_s: 1 rows",
    ):
        assert words in str(error.value)
    assert str(error.value).count("expect_") == 5
    assert not (tmp_path / "out" / "verdict").exists()
    page = (tmp_path / "out" / "docs" / "index.html").read_text()
    assert "5 critical expectations not met" in page and page.count("✕ does not hold") == 5
    assert page.index("✕ does not hold") < page.index("✓ holds"), "what needs a person comes first"
    assert yaml.safe_load((tmp_path / "out" / "results").read_text())["passed"] is False


def test_shares_stop_or_warn_as_the_section_says(
    rows: list[dict[str, Any]], stage: Callable[..., dict[str, Path]]
) -> None:
    outputs = stage(rows, quarantined=8, annotated=1)  # 8 of 16 files is the limit; 1 of 3 annotated only warns
    results = yaml.safe_load(outputs["results"].read_text())
    failed = [row for row in results["suites"]["corpus"] if not row["success"]]
    assert [(row["column"], row["severity"]) for row in failed] == [("annotated_test_share", "warning")]
    page = (outputs["docs"] / "index.html").read_text()
    assert "Every critical expectation is met, and 1 warning" in page and page.count("! does not hold") == 1
    with pytest.raises(ValueError, match=r"corpus: \S+ on quarantined_share: 1 rows, such as 0\.52"):
        stage(rows, quarantined=9)
    with pytest.raises(ValueError, match=r"corpus: .* on val_clips: 1 rows, such as 1"):
        stage(rows[:4] + rows[5:])


def test_a_lost_column_is_named(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    table = pd.DataFrame(rows).drop(columns="split")
    quarantine, annotations = pd.DataFrame(columns=QUARANTINE.names), pd.DataFrame(columns=ANNOTATIONS.names)
    results = validate(table, quarantine, annotations, read_section(Validate, "validate"), tmp_path)
    with pytest.raises(ValueError, match=r"on split: .*split"):
        refuse_if_failed(results, tmp_path)
    assert "split" in (tmp_path / "index.html").read_text()


def test_helper_columns_name_the_offender(rows: list[dict[str, Any]]) -> None:
    rows[0]["video_id"] = rows[3]["video_id"] = "both"
    rows[0]["track_id"] = rows[1]["track_id"] = "fine"  # both in train
    table = with_helpers(pd.DataFrame(rows))
    assert table["video_in_several_splits"].dropna().tolist() == ["both", "both"]
    assert table["track_in_several_splits"].isna().all() and table["missing_media"].isna().all()


def test_the_corpus_row_counts_files_not_csv_rows(rows: list[dict[str, Any]]) -> None:
    quarantine = pd.DataFrame({"uri": ["a.mp4", "a.mp4", "b.mp4", "x/annotations.csv:7", "odd.csv:name.mp4"]})
    annotations = pd.DataFrame({"clip_id": [rows[5]["clip_id"], rows[0]["clip_id"]]})
    (row,) = corpus_row(pd.DataFrame(rows), quarantine, annotations).to_dict("records")
    assert row == {
        "train_clips": 3,
        "val_clips": 2,
        "test_clips": 3,
        "quarantined_share": pytest.approx(3 / 11),
        "annotated_test_share": pytest.approx(1 / 3),
    }
    empty = corpus_row(pd.DataFrame(columns=MANIFEST.names), quarantine[:0], annotations[:0]).to_dict("records")[0]
    assert set(empty.values()) == {0}


def test_names_on_the_page_are_no_markup(
    rows: list[dict[str, Any]], stage: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    rows[0]["clip_id"] = "<script>alert(1)</script>"
    with pytest.raises(ValueError, match="clip_id"):
        stage(rows)
    page = (tmp_path / "out" / "docs" / "index.html").read_text()
    assert "&lt;script&gt;alert(1)" in page and "<script" not in page
    assert f"in {rows[0]['uri']}" in page, "the file of the row"


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("most_quarantined", "share"), 1.5, "validate.most_quarantined.share"),
        (("most_quarantined", "severity"), "fatal", "validate.most_quarantined.severity"),
        (("fps", "low"), 500.0, "validate.fps: low (500) must not exceed high"),
    ],
)
def test_a_wrong_key_is_named(keys: tuple[str, str], value: object, words: str) -> None:
    tree = read_params()
    tree["validate"][keys[0]][keys[1]] = value
    with pytest.raises(ParamsError) as error:
        parse_section(Validate, "validate", tree)
    assert words in str(error.value)
