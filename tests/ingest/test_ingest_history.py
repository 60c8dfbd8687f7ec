"""Splits hold still: whatever is added, goes or is found to belong together, no clip changes sides by itself."""

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ingest.history import place, read_history
from components.ingest.params import Splits
from components.ingest.splits import assign
from components.tables import SPLITS, write_rows

SHARES = Splits(seed=7, train=0.5, val=0.2, test=0.3, min_train=1, min_val=1, min_test=1)

Clip = dict[str, Any]


def clip(name: str, artist: str | None = None, track: str | None = None, video: str | None = None) -> Clip:
    return {
        "clip_id": name, "sha256": f"file of {name}", "video": video or f"video {name}",
        "video_id": video, "track_id": track, "artist_id": artist,
    }  # fmt: skip


def placed(
    clips: list[Clip], pairs: list[tuple[int, int]], history: list[Clip], **told: str
) -> tuple[dict[str, Any], Any, Any]:
    """Split by clip id (of refused ones the reason), and the history that follows."""
    splits, refused, rows = place(clips, pairs, SHARES, [told.get(one["clip_id"]) for one in clips], history)
    assert {at for at, split in enumerate(splits) if split is None} == set(refused)
    names = [one["clip_id"] for one in clips]
    return dict(zip(names, splits, strict=True)), {names[at]: why for at, why in refused.items()}, rows


def sides(split: str, count: int = 200) -> list[str]:
    """Artists whose group is drawn to a split."""
    names = [f"artist {at}" for at in range(count)]
    drawn = assign([clip("x", name) for name in names], [], SHARES)
    return [name for name, own in zip(names, drawn, strict=True) if own == split]


def test_without_a_history_groups_are_drawn_as_ever() -> None:
    clips = [clip(f"c{at}", f"artist {at % 7}") for at in range(20)]
    found, refused, rows = placed(clips, [(0, 8)], [])
    assert list(found.values()) == assign(clips, [(0, 8)], SHARES) and not refused
    assert {row["clip_id"]: row["split"] for row in rows} == found
    assert {(row["why"], row["before"]) for row in rows} == {("first seen", None)}


def test_a_compilation_that_sounds_like_clips_of_two_sides_is_left_out_and_moves_nothing() -> None:
    train, test = sides("train")[0], sides("test")[0]
    clips = [clip(f"a{at}", train) for at in range(5)] + [clip(f"b{at}", test) for at in range(5)]
    before, _, history = placed(clips, [], [])
    assert set(list(before.values())[:5]) == {"train"} and set(list(before.values())[5:]) == {"test"}
    both = [*clips, clip("compilation")]
    found, refused, after = placed(both, [(10, 0), (10, 5)], history)
    assert {name: found[name] for name in before} == before
    assert refused == {
        "compilation": "it belongs with b0 (test) and a0 (train), which were split before; left out, so that none changes sides"
    }
    assert {row["clip_id"]: row["split"] for row in after} == before
    # Without the history it would have pulled one of the two over.
    assert len(set(assign(both, [(10, 0), (10, 5)], SHARES))) == 1


def test_a_new_clip_joins_the_one_side_that_it_belongs_to_and_the_next_sees_it_there() -> None:
    train, test = sides("train")[0], sides("test")[0]
    _, _, history = placed([clip("a", train), clip("b", test)], [], [])
    # "aa" belongs with a, "ab" with both aa and b: refused. In order of ids aa comes first, wherever it stands.
    clips = [clip("ab", test), clip("b", test), clip("aa"), clip("a", train)]
    found, refused, _ = placed(clips, [(2, 3), (0, 2)], history)
    assert (found["aa"], found["b"], set(refused)) == ("train", "test", {"ab"})


def test_an_artist_whose_clips_are_gone_keeps_the_side() -> None:
    train, test = sides("train")[0], max(sides("test"))
    first = min(sides("train")[1:])
    _, _, history = placed([clip("a", train), clip("b", test)], [], [])
    # b is gone; its artist comes back beside a new clip whose artist's name alone would draw the group to train.
    assert first < test
    new = [clip("a", train), clip("c", test, "song"), clip("d", first, "song")]
    found, _, rows = placed(new, [], history)
    assert (found["c"], found["d"]) == ("test", "test")
    assert {row["clip_id"] for row in rows} == {"a", "b", "c", "d"}, "what is gone stays in the history"
    assert test not in str(rows), "as a digest"


def test_the_same_video_in_another_file_keeps_its_side() -> None:
    video = next(name for name in map(str, range(99)) if assign([clip("x", video=name)], [], SHARES) == ["test"])
    history = placed([clip("old", video=video)], [], [])[2]
    history[0]["split"] = "train"  # as a version was trained on it, before shares of today
    assert placed([clip("new", video=video)], [], history)[0] == {"new": "train"}


def test_clips_that_turn_out_to_belong_together_keep_their_sides_and_take_nobody_in() -> None:
    train, test = sides("train")[0], sides("test")[0]
    _, _, history = placed([clip("a", train), clip("b", test)], [], [])
    named = [clip("a", "one name"), clip("b", "one name"), clip("c", "one name")]
    found, refused, _ = placed(named, [], history)
    assert (found["a"], found["b"], set(refused)) == ("train", "test", {"c"})


def test_a_word_moves_clips_and_the_history_says_which_and_why(caplog: pytest.LogCaptureFixture) -> None:
    train = sides("train")[0]
    clips = [clip("a", train), clip("aa", train), clip("b", sides("test")[0])]
    _, _, history = placed(clips, [], [])
    with caplog.at_level(logging.WARNING):
        found, _, rows = placed(clips, [], history, a="test")
    assert found == {"a": "test", "aa": "test", "b": "test"}, "the group follows, so that nothing leaks"
    told = {row["clip_id"]: (row["before"], row["why"]) for row in rows}
    assert told["aa"] == ("train", "a description tells it, of this clip or of one that belongs with it")
    assert told["b"] == (None, "first seen")
    assert (
        "2 clips changed sides from train to test (a description tells it" in caplog.text and ": a, aa" in caplog.text
    )
    again = placed(clips, [], rows)
    assert again[0] == found and {row["clip_id"]: row["why"] for row in again[2]}["aa"] == told["aa"][1]


def test_other_shares_draw_anew_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    clips = [clip(f"c{at:02d}", f"artist {at}") for at in range(40)]
    before, _, history = placed(clips, [], [])
    other = SHARES.model_copy(update={"seed": 8})
    with caplog.at_level(logging.WARNING):
        splits, _, rows = place(clips, [], other, [None] * 40, history)
    assert splits == assign(clips, [], other)
    moved = [row for row in rows if row["before"] is not None]
    assert len(moved) == sum(before[row["clip_id"]] != row["split"] for row in rows) > 0
    assert {row["why"] for row in moved} == {"ingest.splits has other shares or another seed"}
    assert "another seed" in caplog.text
    # More clips a split needs are no other shares.
    fewer = SHARES.model_copy(update={"min_train": 3})
    assert place(clips, [], fewer, [None] * 40, history)[0] == list(before.values())


some = st.one_of(st.none(), st.integers(0, 5).map(str))
grown = st.lists(st.tuples(some, some, st.booleans()), min_size=1, max_size=24)


@settings(max_examples=150, deadline=None)
@given(grown, st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)), max_size=8), st.randoms())
def test_whatever_is_added_in_whatever_order_no_clip_changes_sides_and_no_group_is_torn(
    rows: list[tuple[str | None, str | None, bool]], pairs: list[tuple[int, int]], random: Any
) -> None:
    clips = [clip(f"c{at:02d}", artist, track) for at, (artist, track, _) in enumerate(rows)]
    pairs = [(one, other) for one, other in pairs if max(one, other) < len(clips)]
    history: list[Clip] = []
    known: dict[str, str] = {}
    for grown_to in (len(clips) // 2, len(clips)):
        here = list(range(grown_to))
        random.shuffle(here)
        spot = {at: new for new, at in enumerate(here)}
        linked = [(spot[one], spot[other]) for one, other in pairs if one in spot and other in spot]
        found, refused, history = placed([clips[at] for at in here], linked, history)
        assert {name: found[name] for name in known if name not in refused} == {
            name: split for name, split in known.items() if name not in refused
        }
        assert not set(refused) & set(known)
        kept = [at for at in here if clips[at]["clip_id"] not in refused]
        for key in ("artist_id", "track_id"):
            for value in {clips[at][key] for at in kept} - {None}:
                assert len({found[clips[at]["clip_id"]] for at in kept if clips[at][key] == value}) == 1
        known = {name: split for name, split in found.items() if split is not None}


def test_a_damaged_history_stops_the_run_and_an_absent_one_is_a_beginning(tmp_path: Path) -> None:
    path = tmp_path / "splits.parquet"
    assert read_history(path) == []
    write_rows(path, placed([clip("a")], [], [])[2], SPLITS)
    assert [row["clip_id"] for row in read_history(path)] == ["a"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"splits\.parquet: the history .* `dvc checkout .*splits\.parquet`"):
        read_history(path)
