"""What people look at first, read from the evaluation's metrics.json."""

from pathlib import Path

import pytest

from components.evaluation.metrics_file import Metrics, OracleRatio, write_metrics
from flows.drift.harm import slices_of
from flows.errors import Refusal
from flows.registration.record import final_metrics
from flows.workspace.graph import Graph, Stage
from flows.workspace.inputs import Inputs
from flows.workspace.results import headline, read_metrics
from tests.evaluation.made_metrics import made_metrics


def graph_of(root: Path, metrics: Metrics | None) -> Graph:
    """A graph with nothing but an evaluation, and its file."""
    if metrics is not None:
        write_metrics(root / "data/metrics.json", metrics)
    return Graph(root, (Stage("evaluation", "", {"metrics": "data/metrics.json"}, (), (), (), Inputs([], {}, {})),))


def test_the_headline_has_each_mode_against_chance_and_oracle(tmp_path: Path) -> None:
    made = made_metrics(ratio_to_oracle={"video": OracleRatio(recall_at_10=0.5), "text": OracleRatio(median_rank=1.0)})
    shown = headline(graph_of(tmp_path, made))
    assert shown is not None
    assert (shown["pool"], shown["queries"], shown["chance"]) == (200, 200, 0.05)
    assert [row["mode"] for row in shown["modes"]] == ["video", "text", "video+text"]
    assert [row["of_oracle"] for row in shown["modes"]] == [0.5, None, None]
    first = shown["modes"][0]
    assert (first["value"], first["low"], first["high"], first["median_rank"]) == (0.7, 0.6, 0.8, 0.7)
    assert first["times_chance"] == pytest.approx(14)


def test_a_graph_without_an_evaluation_has_none(tmp_path: Path) -> None:
    empty = Graph(tmp_path, ())
    assert read_metrics(empty) is None and headline(empty) is None
    assert slices_of(None) == (None, ())


def test_a_damaged_or_absent_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, None)
    with pytest.raises(Refusal, match=r"^data/metrics\.json: No such file .*needledrop retrain"):
        headline(graph)
    graph = graph_of(tmp_path, made_metrics())
    path = tmp_path / "data/metrics.json"
    path.write_text(path.read_text().replace('"queries"', '"questions"'))
    with pytest.raises(Refusal, match=r"^data/metrics\.json: pool\.queries is missing; .*needledrop retrain"):
        headline(graph)


def test_what_is_logged_has_every_value_and_the_interval_of_recall_at_10() -> None:
    logged = final_metrics(made_metrics())
    assert logged["pool.size"] == 200
    assert logged["track.video_to_music.video-and-text.R10"] == 0.7
    assert logged["track.video_to_music.video-and-text.R10.low"] == 0.6
    assert logged["track.video_to_music.video.MRR"] == 0.7 and "track.video_to_music.video.MRR.low" not in logged
    assert "track.music_to_video.video.R10" in logged and "track.music_to_video.video.MRR" not in logged
    assert "oracle.video.R10" in logged and "oracle.video.MedR" not in logged
