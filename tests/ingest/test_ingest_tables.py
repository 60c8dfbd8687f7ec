"""Annotations and seed tags: whatever bytes the files hold, each row is used or refused by its line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from components.ingest.annotations import read_annotations
from components.ingest.rows import clean_text, leads_out, read_csv
from components.ingest.seed import read_seed_tags
from tests.ingest.conftest import Run, listed
from tests.ingest.media_look_alike import notes, write_clip, write_media

HEADER = b"video_id,start,end,text\n"
CLIPS: list[dict[str, Any]] = [
    {"clip_id": "c1", "video_id": "one", "start_s": 0.0, "end_s": 3.0},
    {"clip_id": "c2", "video_id": "two", "start_s": 25.0, "end_s": 35.0},
]


def read(path: Path, rows: bytes, header: bytes = HEADER) -> tuple[dict[int, str], dict[int, str]]:
    """Text by line of what is accepted, and reason by line of what is not."""
    path.write_bytes(header + rows)
    accepted, refused = read_annotations(path, CLIPS, {"lost": "its file is in quarantine (black)"}, 200)
    reasons = {int(row["uri"].rpartition(":")[2]): row["reason"] for row in refused}
    return {row["line"]: row["text"] for row in accepted}, reasons


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"one,3,1,backwards", "end_before_start"),
        (b"one,1,1,no length", "end_before_start"),
        (b"nobody,0,1,who", "unknown_video"),
        (b"lost,0,1,who", "unknown_video"),
        (b"one,0,1,", "empty_text"),
        (b'one,0,1," \t\x00 "', "empty_text"),
        (b"one,0,1," + b"x" * 1_000_000, "text_too_long"),
        (b'one,0,1,"' + b'x,""\n' * 30 + b'" ' + b"y" * 1_000_000, "text_too_long"),
        (b"one,0,1,caf\xe9", "bad_encoding"),
        (b"one,0,1,\xed\xa0\x80", "bad_encoding"),
        (b"one,zero,1,text", "bad_number"),
        (b"one,-1,1,text", "bad_number"),
        (b"one,0,inf,text", "bad_number"),
        (b"one,nan,1,text", "bad_number"),
        (b"one,0,1e9,text", "bad_number"),
        (b"one,0,\xd9\xa3,text", "bad_number"),
        (b"../one,0,1,text", "unsafe_path"),
        (b"/etc/passwd,0,1,text", "unsafe_path"),
        (b"..\\one,0,1,text", "unsafe_path"),
        (b"C:one,0,1,text", "unsafe_path"),
        (b"one,0,1", "wrong_field_count"),
        (b"one,0,1,text,more", "wrong_field_count"),
        (b"two,0,10,before the part that is used", "outside_clip"),
        (b'one,0,1,"never closed', "unclosed_quote"),
    ],
)
def test_a_bad_row_is_refused_by_its_line_and_the_next_is_not(tmp_path: Path, row: bytes, reason: str) -> None:
    lines = row.count(b"\n") + 1
    accepted, refused = read(tmp_path / "a.csv", b"one,0,3,fine\n" + row + b"\ntwo,26,34,fine too\n")
    assert accepted == {2: "fine", 3 + lines: "fine too"}
    assert refused == {3: reason}


def test_a_second_annotation_of_a_clip_names_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER + b"one,0,3,first\none,0,2,second\n")
    accepted, refused = read_annotations(path, CLIPS, {}, 200)
    assert accepted == [{"clip_id": "c1", "text": "first", "line": 2}]
    assert refused[0]["uri"] == f"{path.as_posix()}:3"
    assert (refused[0]["reason"], "line 2" in refused[0]["detail"]) == ("duplicate_annotation", True)


def test_marks_line_ends_quotes_and_unicode_are_understood(tmp_path: Path) -> None:
    rows = b'one,0,3,"Slow,  ""sad""\r\n cafe\xcc\x81 "\r\n\r\ntwo,25,35,b\r\n'
    accepted, refused = read(tmp_path / "a.csv", rows, b"\xef\xbb\xbf video_id ,start,end,text\r\n")
    assert accepted == {2: 'Slow, "sad" caf\u00e9', 5: "b"}
    assert refused == {}


def test_columns_may_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    accepted, _ = read(tmp_path / "a.csv", b"x,words,3,0,one\n", b"who,text,end,start,video_id\n")
    assert accepted == {2: "words"}


@pytest.mark.parametrize(
    "header", [b"", b"video_id,start,text\n", b"\xff\xfev\x00i\x00", b"video_id,start,start,end,text\n"]
)
def test_a_missing_or_double_column_stops_with_its_name(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(ValueError, match=r"a\.csv: column '(video_id|end|start)' (is missing|stands twice)"):
        read(tmp_path / "a.csv", b"", header)


def test_a_seed_without_a_column_stops_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "seed_tags.csv").write_text("path,group\n")
    with pytest.raises(ValueError, match=r"seed_tags\.csv: column 'name' is missing"):
        read_seed_tags(tmp_path / "seed_tags.csv")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.sampled_from([b'"', b",", b"\n", b"\r", b"one,0,3,x\n", b"two,26,27,y\n"]))
    ).map(b"".join)
)
@example(b'"\n' * 300)
@example(b"\x00,\x00,\x00,\x00\n")
def test_any_bytes_give_rows_or_reasons(tmp_path: Path, rows: bytes) -> None:
    accepted, refused = read(tmp_path / "a.csv", rows)
    assert not set(accepted) & set(refused)
    assert all(line >= 2 for line in (*accepted, *refused))
    records = {row.line for row in read_csv(tmp_path / "a.csv", ("video_id", "start", "end", "text"))}
    assert set(accepted) | set(refused) == records
    assert all(text and text == clean_text(text) and text.isprintable() is not None for text in accepted.values())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["one", "two"]), st.text(st.characters(codec="utf-8"), max_size=40)), max_size=6)
)
def test_what_a_csv_writer_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    import csv
    import io

    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([video, 26 if video == "two" else 0, 30, text] for video, text in rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    accepted, _ = read(path, buffer.getvalue().encode())
    wanted: dict[str, str] = {}
    for video, text in rows:
        if clean_text(text):
            wanted.setdefault(video, clean_text(text))
    assert sorted(accepted.values()) == sorted(wanted.values())


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("a/b.m4a", False),
        ("..", True),
        ("a/../../b", True),
        ("/a", True),
        ("\\a", True),
        ("a..b", False),
        ("c:\\a", True),
    ],
)
def test_names_that_lead_out(name: str, out: bool) -> None:
    assert leads_out(name) is out


def test_the_seed_library_takes_sound_alone_and_refuses_the_rest_by_line(tmp_path: Path, run: Run) -> None:
    seed = tmp_path / "library" / "seed"
    seed.mkdir(parents=True)
    write_media(seed / "a.m4a", None, notes(1, 7, 16000))
    write_clip(seed / "b.mp4", 2)
    (seed / "c.m4a").write_bytes(b"")
    (seed / "d.m4a").write_bytes((seed / "a.m4a").read_bytes())
    write_clip(tmp_path / "outside.mp4", 3)
    (seed / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    tags = tmp_path / "library" / "seed_tags.csv"
    tags.write_text(
        "path,group,name\nseed/a.m4a,moods,calm\nseed/a.m4a,genres,folk\nseed/a.m4a,genres,folk\nseed/b.mp4,instruments,piano\n"
        "seed/b.mp4,colours,red\nseed/b.mp4,genres,\n../outside.mp4,genres,folk\nseed/link.mp4,genres,folk\n"
        "seed/c.m4a,genres,folk\nseed/d.m4a,genres,folk\nseed/absent.m4a,genres,folk\n"
    )
    result = run([], seed=tags)
    rows = {Path(row["uri"]).name: row for row in result.seed}
    assert [(t["group"], t["name"]) for t in rows["a.m4a"]["tags"]] == [("genres", "folk"), ("moods", "calm")]
    assert (rows["a.m4a"]["start_s"], rows["a.m4a"]["end_s"]) == (2.0, 5.0)
    assert set(rows) == {"a.m4a", "b.mp4"}
    refused = {row["uri"].removeprefix(tags.parent.as_posix()): row["reason"] for row in result.quarantine}
    assert refused == {
        "/seed_tags.csv:6": "unknown_group",
        "/seed_tags.csv:7": "bad_name",
        "/seed_tags.csv:8": "unsafe_path",
        "/seed_tags.csv:9": "outside_root",
        "/seed/c.m4a": "empty_file",
        "/seed/d.m4a": "duplicate",
        "/seed/absent.m4a": "unreadable",
    }


def test_ids_of_the_inventory_stand_and_equal_stems_are_told_apart(tmp_path: Path, run: Run) -> None:
    for number, place in enumerate(("a", "b", "c")):
        (tmp_path / "media" / place).mkdir(parents=True)
        write_clip(tmp_path / "media" / place / "take.mp4", number)
    rows = listed(tmp_path / "media")
    rows[2] |= {"video_id": "vid", "track_id": "trk", "artist_id": "art", "title": "Song"}
    csv = tmp_path / "a.csv"
    csv.write_text("video_id,start,end,text\nvid,0,3,a\ntake,0,3,b\n")
    result = run(rows, annotations=csv)
    known = next(row for row in result.manifest if row["uri"] == rows[2]["uri"])
    assert (known["video_id"], known["track_id"], known["artist_id"], known["title"]) == ("vid", "trk", "art", "Song")
    others = [row for row in result.manifest if row is not known]
    assert {row["video_id"] for row in others} == {f"take-{row['clip_id']}" for row in others}
    assert [row["clip_id"] for row in result.annotations] == [known["clip_id"]]
    assert ["several files" in row["detail"] for row in result.quarantine] == [True]


def test_paths_that_go_up_or_have_odd_characters_are_refused_by_name(tmp_path: Path, run: Run) -> None:
    (tmp_path / "media").mkdir()
    write_clip(tmp_path / "media" / "a.mp4", 1)
    write_clip(tmp_path / "b.mp4", 2)
    row = listed(tmp_path / "media")[0]
    bad = [f"{tmp_path}/media/../b.mp4", "nul\0.mp4", "", "http://127.0.0.1:9/x.mp4"]
    result = run([row, *({**row, "uri": uri} for uri in bad[:3])])
    assert {r["uri"]: r["reason"] for r in result.quarantine} == {
        bad[0]: "outside_root",
        bad[1]: "unsafe_name",
        bad[2]: "unsafe_name",
    }
    assert len(result.manifest) == 1
