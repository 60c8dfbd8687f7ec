"""metrics.json: written and read without loss, described by a schema, refused in one line where it is wrong."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from components.evaluation.metrics_file import (
    FUSED,
    Interval,
    Metrics,
    MetricsError,
    SliceInterval,
    read_metrics,
    schema,
    write_metrics,
)
from components.evaluation.pool import Pool
from components.evaluation.run import measure
from tests.evaluation.made_metrics import made_metrics
from tests.evaluation.planted import Traits, section, write_traits

ROOT = Path(__file__).parents[2]
TAGS = [{"group": "genres", "name": "folk", "probability": 0.5}]
WORLD = {"mood": {"type": "categorical", "cardinality": 4, "video_epsilon": 0.2, "text_epsilon": 0.2}}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Sixteen clips: four looks by four sounds."""
    rows, stores = write_traits(
        tmp_path_factory.mktemp("grid"), [at // 4 for at in range(16)], [at % 4 for at in range(16)], (4, 4)
    )
    return Pool(rows, "annotation", stores)


def whole(pool: Pool) -> Metrics:
    """With every block: an oracle, tags, other texts."""
    truth = {
        row["video_id"]: {f"{side}_mood": at % 4 for side in ("music", "video", "text")}
        for at, row in enumerate(pool.rows)
    }
    tags = [{"clip_id": clip, "tags": TAGS} for clip in pool.ids]
    return measure(Traits(), pool, (truth, WORLD), tags, section()).metrics


def without_texts(pool: Pool) -> Metrics:
    stores = {m: store for m, store in pool.stores.items() if m != "text"}
    return measure(Traits(), Pool(pool.rows, "none", stores), None, [], section()).metrics


def of_one_track(pool: Pool) -> Metrics:
    """No other text, and one cluster alone."""
    rows = [row | {"track_id": "same", "artist_id": "same"} for row in pool.rows]
    return measure(Traits(), Pool(rows, "annotation", pool.stores), None, [], section()).metrics


@pytest.mark.parametrize("made", [whole, without_texts, of_one_track])
def test_what_is_written_is_read_fits_the_schema_and_has_the_same_bytes(
    made: Callable[[Pool], Metrics], pool: Pool, tmp_path: Path
) -> None:
    metrics = made(pool)
    path, again = tmp_path / "metrics.json", tmp_path / "again.json"
    write_metrics(path, metrics)
    assert read_metrics(path) == metrics
    write_metrics(again, read_metrics(path))
    assert again.read_bytes() == path.read_bytes()
    tree = json.loads(path.read_text())
    Draft202012Validator(json.loads(schema())).validate(tree)
    assert path.read_text() == json.dumps(tree, indent=2, sort_keys=True) + "\n"


def test_what_was_not_measured_is_absent(pool: Pool) -> None:
    tree = whole(pool).as_json()
    assert set(tree["counterfactual"]) == {
        "queries",
        "own",
        "donor",
        "donor_by_video",
        "rises",
        "above_chance",
        "oracle",
    }
    assert set(tree["graded"]) == set(tree["hubness"]) == {"video", "text", "video+text", "chance"}
    assert set(tree["track"]["video_to_music"]["video+text"]) == {"R@1", "R@5", "R@10", "MedR", "MRR"}
    bare = without_texts(pool).as_json()
    assert (bare["counterfactual"], bare["graded"], bare["oracle"], bare["guidance"]) == ({}, {}, {}, [])
    assert set(bare["coverage"]) == {"video", "chance"}
    lone = of_one_track(pool).as_json()
    assert [set(row) for row in lone["guidance"]] == [{"weight", "own"}] * 3
    ends = [end for row in lone["slices"] for one in row["R@10"].values() for end in (one["low"], one["high"])]
    assert ends and set(ends) == {None}, "no interval over one cluster: the only nulls of the file"
    assert "null" not in json.dumps(tree | {"slices": []}) + json.dumps(bare)


def test_the_schema_of_the_documents_is_that_of_the_code() -> None:
    command = [sys.executable, "-m", "components.evaluation.metrics_file"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == schema() == (ROOT / "docs/schemas/metrics.json").read_text(encoding="utf-8")


def test_every_figure_is_described() -> None:
    tree = json.loads(schema())
    for name, block in {**tree["$defs"], "Metrics": tree}.items():
        assert block["description"] and block["additionalProperties"] is False, name
        for key, field in block["properties"].items():
            assert field.get("description"), f"{name}.{key}"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tree: tree.pop("slices"), "slices is missing"),
        (lambda tree: tree["track"]["video_to_music"]["video"].pop("R@5"), "track.video_to_music.video.R@5 is missing"),
        (lambda tree: tree["counterfactual"].pop("own"), "counterfactual.own is missing"),
        (lambda tree: tree["counterfactual"].update(oracle={}), "counterfactual.oracle.own is missing"),
        (lambda tree: tree["pool"].update(kind="x"), "pool.kind is an unknown key"),
        (lambda tree: tree["track"]["video_to_music"].update(taste=tree["track"]["video_to_music"]["video"]),
         "track.video_to_music.taste: input should be 'video', 'text' or 'video+text'"),
        (lambda tree: tree["guidance"][2].update(weight="1"), "guidance.2.weight: input should be a valid number"),
        (lambda tree: tree["pool"].update(size=2.5), "pool.size: input should be a valid integer"),
        (lambda tree: tree["hubness"].update(video=float("nan")), "hubness.video: input should be a finite number"),
        (lambda tree: tree["pool"]["chance"].update({"R@10": float("inf")}), "pool.chance.R@10: input should be a finite number"),
        (lambda tree: tree["track"]["video_to_music"]["text"]["MRR"].update(low=None),
         "track.video_to_music.text.MRR.low: input should be a valid number"),
        (lambda tree: tree["slices"][0]["R@10"]["video"].update(low=None),
         "slices.0.R@10.video: value error, low and high are both numbers or both null"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line_that_names_file_and_key(
    damage: Callable[[Any], Any], message: str, pool: Pool, tmp_path: Path
) -> None:
    tree = copy.deepcopy(whole(pool).as_json())
    damage(tree)
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(MetricsError) as error:
        read_metrics(path)
    assert str(error.value).startswith(f"{path}: {message}") and "\n" not in str(error.value)
    assert str(error.value).endswith("; it is damaged, or of another version")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"pool": {', "evaluation/metrics.json: not JSON (EOF while parsing"),
        (b"[]", "evaluation/metrics.json: the file: input should be an object"),
        (b'{"pool": "\xff"}', "evaluation/metrics.json: not UTF-8 text (byte 10)"),
        (None, "evaluation/metrics.json: No such file or directory"),
    ],
)
def test_what_is_no_such_file_at_all(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MetricsError) as error:
        read_metrics(path, "evaluation/metrics.json")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_figure_that_is_no_number_is_never_written() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Interval(value=float("nan"), low=0.0, high=1.0)
    with pytest.raises(ValidationError, match="both numbers or both null"):
        SliceInterval(value=0.5, low=0.1, high=None)


def test_figures_are_read_by_name_and_cannot_be_changed() -> None:
    metrics = made_metrics()
    assert metrics.track.video_to_music[FUSED].recall_at_10.value == 0.7
    assert metrics.coverage.by_mode() == {"video": 0.9, "text": 0.8, "video+text": 1.0}
    assert metrics.hubness.by_mode() == {}
    with pytest.raises(ValidationError, match="frozen"):
        metrics.pool.size = 3  # type: ignore[misc]
