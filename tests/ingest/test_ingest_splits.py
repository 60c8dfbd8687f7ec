"""Splits: disjoint by every group, still when clips are added, refused when too small."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ingest.params import Ingest, Splits
from components.ingest.splits import assign, check_counts, linked
from components.settings import ParamsError, parse_section, read_params

SPLITS = Splits(seed=7, train=0.6, val=0.1, test=0.3, min_train=3, min_val=2, min_test=1)

maybe = st.one_of(st.none(), st.integers(0, 12).map(str))


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    rows = draw(st.lists(st.tuples(maybe, maybe, maybe), min_size=1, max_size=40))
    clips = [
        {"video_id": v and f"v{v}", "track_id": t and f"t{t}", "artist_id": a and f"a{a}", "sha256": f"{i:064x}"}
        for i, (v, t, a) in enumerate(rows)
    ]
    index = st.integers(0, len(clips) - 1)
    return clips, draw(st.lists(st.tuples(index, index), max_size=10))


def test_groups_by_hand() -> None:
    assert linked(0, []) == []
    assert linked(3, []) == [[0], [1], [2]]
    # 6-1 and 4-1 make one group through 1; the later members' pairs come first, the order is that of the items.
    assert linked(7, [(6, 1), (5, 3), (4, 1), (2, 2)]) == [[0], [1, 4, 6], [2], [3, 5]]
    # 0 and 3 by the first column, 3 and 4 by the second; equal words in two columns say nothing, nor does None.
    columns = [["x", None, "y", "x", None], ["y", None, "z", "w", "w"]]
    assert linked(5, [], columns) == [[0, 3, 4], [1], [2]]
    assert linked(5, [(1, 2), (2, 4)], columns) == [[0, 1, 2, 3, 4]]


@settings(max_examples=150, deadline=None)
@given(corpora())
def test_no_group_is_torn_apart(corpus: tuple[list[dict[str, Any]], list[tuple[int, int]]]) -> None:
    clips, pairs = corpus
    splits = assign(clips, pairs, SPLITS)
    assert set(splits) <= {"train", "val", "test"}
    for key in ("video_id", "track_id", "artist_id"):
        for value in {clip[key] for clip in clips} - {None}:
            assert len({split for split, clip in zip(splits, clips, strict=True) if clip[key] == value}) == 1
    assert all(splits[i] == splits[j] for i, j in pairs)


@settings(max_examples=100, deadline=None)
@given(corpora(), st.integers(1, 5))
def test_new_clips_of_new_artists_move_nothing(
    corpus: tuple[list[dict[str, Any]], list[tuple[int, int]]], count: int
) -> None:
    clips, pairs = corpus
    new = [
        {"video_id": f"new{i}", "track_id": None, "artist_id": f"new{i}", "sha256": f"f{i:063x}"} for i in range(count)
    ]
    assert assign([*clips, *new], pairs, SPLITS)[: len(clips)] == assign(clips, pairs, SPLITS)


def test_a_new_clip_joins_its_artist_without_moving_it() -> None:
    clips = [
        {"video_id": f"v{i}", "track_id": f"t{i}", "artist_id": f"a{i // 3}", "sha256": f"{i:064x}"} for i in range(90)
    ]
    before = assign(clips, [], SPLITS)
    new = [{"video_id": f"n{i}", "track_id": f"n{i}", "artist_id": f"a{i}", "sha256": f"0{i:063x}"} for i in range(30)]
    after = assign([*new, *clips], [], SPLITS)
    assert after[30:] == before
    assert after[:30] == before[::3]


def test_the_order_of_the_clips_does_not_matter_and_the_seed_does() -> None:
    clips = [{"video_id": None, "track_id": None, "artist_id": None, "sha256": f"{i:064x}"} for i in range(200)]
    forward = assign(clips, [(0, 5)], SPLITS)
    assert assign(clips[::-1], [(199, 194)], SPLITS)[::-1] == forward
    assert assign(clips, [(0, 5)], SPLITS.model_copy(update={"seed": 8})) != forward
    shares = [forward.count(split) / 200 for split in ("train", "val", "test")]
    assert shares == pytest.approx([0.6, 0.1, 0.3], abs=0.12)


def test_too_few_clips_are_refused_with_the_counts() -> None:
    manifest = [{"split": split} for split in ["train"] * 2 + ["val"] * 2 + ["test"]]
    with pytest.raises(ValueError, match=r"train 2 of 3 needed, val 2 of 2 needed, test 1 of 1 needed"):
        check_counts(manifest, SPLITS)
    check_counts([*manifest, {"split": "train"}], SPLITS)
    with pytest.raises(ValueError, match="train 0 of 3"):
        check_counts([], SPLITS)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("splits", "train"), 0.7, "ingest.splits: train, val and test must add up to 1"),
        (("limits", "min_s"), 50.0, "ingest.limits: min_s (50.0) must not exceed clip_s"),
        (("limits", "silence_dbfs"), 3.0, "ingest.limits.silence_dbfs"),
        (("decoding", "workers"), 0, "ingest.decoding.workers"),
        (("copies", "sound"), "high", "ingest.copies.sound"),
        (("limits", "clip_seconds"), 3, "ingest.limits.clip_seconds: unknown key"),
    ],
)
def test_a_wrong_key_is_named(path: tuple[str, str], value: object, words: str) -> None:
    tree = read_params()
    tree["ingest"][path[0]][path[1]] = value
    with pytest.raises(ParamsError) as error:
        parse_section(Ingest, "ingest", tree)
    assert words in str(error.value)
