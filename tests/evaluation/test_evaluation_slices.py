"""Slices by genre, mood and length."""

import logging

import numpy as np
import pytest

from components.evaluation.metrics_file import SliceInterval
from components.evaluation.params import EvaluationSection
from components.evaluation.retrieval import Ranking
from components.evaluation.slices import length_class, most_probable, slice_rankings
from components.settings import ParamsError, parse_section
from tests.evaluation.planted import SECTION, section


def ranking(ranks: list[int], mode: str = "video") -> Ranking:
    clips = np.array([f"c{at}" for at in range(len(ranks))])
    ones = np.ones(len(ranks), int)
    return Ranking(
        "track",
        "video_to_music",
        mode,
        clips,
        np.array(ranks),
        ones.astype(np.float32),
        clips,
        ones,
        0 * ones,
        len(ranks),
    )


def rows(count: int, seconds: float = 8.0) -> list[dict[str, object]]:
    return [{"clip_id": f"c{at}", "start_s": 1.0, "end_s": 1.0 + seconds} for at in range(count)]


def tags(genres: list[str | None]) -> dict[str, list[dict[str, object]]]:
    return {
        f"c{at}": [] if name is None else [{"group": "genres", "name": name, "probability": 0.5}]
        for at, name in enumerate(genres)
    }


def test_slices_by_hand(caplog: pytest.LogCaptureFixture) -> None:
    named = {f"c{at}": f"a{at}" for at in range(9)}
    genres: list[str | None] = ["folk", "folk", "folk", "rock", "rock", "rock", None, None, None]
    with caplog.at_level(logging.INFO):
        ranked = {"video": ranking([1, 11, 3, 20, 20, 20, 1, 1, 1])}
        cut = slice_rankings(ranked, rows(9), tags(genres), named, section())
    recall = {(row.by, row.name): row.recall_at_10["video"].value for row in cut}
    assert recall == {
        ("genre", "folk"): pytest.approx(2 / 3), ("genre", "rock"): 0.0, ("genre", "untagged"): 1.0,
        ("mood", "untagged"): pytest.approx(5 / 9), ("length", "5 to 10 s"): pytest.approx(5 / 9),
    }  # fmt: skip
    for row in cut:
        r10 = row.recall_at_10["video"]
        assert r10.low <= r10.value <= r10.high
    with caplog.at_level(logging.INFO):
        few = slice_rankings(
            {"video": ranking([1] * 4)}, rows(4), tags(["folk", "folk", "folk", "rock"]), named, section()
        )
    assert [row.name for row in few if row.by == "genre"] == ["folk"]
    assert "1 of 2 slices by genre have fewer than 3 queries" in caplog.text


def test_a_slice_of_one_cluster_has_no_interval() -> None:
    one = dict.fromkeys(("c0", "c1", "c2"), "a")
    cut = slice_rankings({"video": ranking([1, 20, 1])}, rows(3), {}, one, section())
    assert [(row.by, row.clusters) for row in cut] == [("length", 1)], "no tags, no slices by tag"
    assert cut[0].recall_at_10["video"] == SliceInterval(value=2 / 3, low=None, high=None)


def test_names_of_slices() -> None:
    both = [{"group": "genres", "name": "rock", "probability": 0.4}, {"group": "genres", "name": "folk", "probability": 0.4},
            {"group": "moods", "name": "sad", "probability": 0.9}]  # fmt: skip
    assert most_probable(both, "genres") == "folk"
    assert most_probable([*both, {"group": "genres", "name": "zouk", "probability": 0.5}], "genres") == "zouk"
    edges = (5.0, 10.0)
    assert [length_class(s, edges) for s in (4.9, 5.0, 9.99, 9.9999, 10.0, 60.0)] == [
        "under 5 s", "5 to 10 s", "5 to 10 s", "10 s and more", "10 s and more", "10 s and more",
    ]  # fmt: skip
    assert length_class(3.0, ()) == "all"
    lengths = [{"clip_id": f"c{at}", "start_s": 0.0, "end_s": s} for at, s in enumerate([20.0, 12.0, 7.0, 3.0])]
    cut = slice_rankings(
        {"video": ranking([1] * 4)},
        lengths,
        {},
        {f"c{at}": "a" for at in range(4)},
        section(least_slice=1, length_edges_s=[5, 10, 15]),
    )
    assert [row.name for row in cut] == ["under 5 s", "5 to 10 s", "10 to 15 s", "15 s and more"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pools": 3}, r"pools \(3\) needs a pool_size"),
        ({"guidance": [0.5, 0.1]}, r"guidance must be ascending"),
        ({"guidance": [0.5, 1.5]}, r"evaluation\.guidance"),
        ({"length_edges_s": [5, 5]}, "length_edges_s must be ascending"),
        ({"least_slice": 0}, r"evaluation\.least_slice"),
    ],
)
def test_wrong_params_name_the_key(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse_section(EvaluationSection, "evaluation", {"evaluation": SECTION | changes})
