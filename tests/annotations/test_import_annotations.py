"""Importing a published list of described clips, on small rendered media."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.containers import MediaError, probe
from components.corpus.listing import list_folder
from components.ingest.annotations import told_splits
from components.ingest.splits import assign
from components.media import frames_at, mono
from components.params import read_all
from flows.annotations.cut import cut, label_of
from flows.annotations.frozen import digest_of
from flows.annotations.importing import import_annotations
from flows.annotations.local_media import find_media
from flows.annotations.published import split_of
from flows.cli import main
from flows.errors import Refusal
from tests.ingest.media_look_alike import blobs, notes, write_clip, write_media

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds each, named as downloaders do; one without sound, one that is no video."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "more").mkdir()
    write_clip(folder / "abcdefghij1.mp4", 1, 6.0)
    write_clip(folder / "more/Some - title [abcdefghij2].mkv", 2, 6.0, container="matroska")
    write_clip(folder / "A song-abcde-ghij3.mp4", 3, 6.0)
    write_clip(folder / "-bcdefghij4.mp4", 4, 6.0)
    write_media(folder / "mute5.mp4", blobs(5, 60, (64, 48)), None)
    (folder / "text6.mp4").write_text("not a video")
    (folder / "abcdefghij1.json").write_text("{}")
    return folder


def write_csv(
    path: Path, *rows: tuple[str, ...], header: tuple[str, ...] = ("video_id", "start", "end", "text")
) -> Path:
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


@pytest.fixture
def lists(tmp_path: Path) -> list[Path]:
    return [
        write_csv(tmp_path / "train.csv", ("abcdefghij1", "2", "4", "calm piano"), ("gone0000001", "1", "3", "lost song")),
        write_csv(
            tmp_path / "test.csv",
            ("abcdefghij2", "2", "4", "fast, loud rock"), ("abcde-ghij3", "1.5", "3.5", "folk"), ("-bcdefghij4", "2", "4", "jazz"),
        ),
    ]  # fmt: skip


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def bring(lists: list[Path], media: Path, out: Path, frozen: Path | None = None) -> dict[str, Any]:
    return import_annotations(lists, media, out, frozen, workers=1)


def test_an_import_is_a_folder_corpus_with_its_splits(lists: list[Path], media: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = bring(lists, media, out)
    assert report == json.loads((out / "report.json").read_text())
    assert (report["rows"], report["used"], report["splits"]) == (5, 4, {"test": 3, "train": 1})
    assert report["missing"] == {"count": 1, "share": 1 / 5, "ids": ["gone0000001"]}
    assert report["refused"] == report["frozen"]["gone"] == []
    ids = ["-bcdefghij4", "abcde-ghij3", "abcdefghij1", "abcdefghij2"]
    assert [entry["path"] for entry in list_folder(out / "clips")["files"]] == [f"{name}.mp4" for name in ids]
    rows = rows_of(out / "annotations.csv")
    assert [(row["video_id"], row["start"], row["end"], row["split"]) for row in rows] == [
        (name, "0", "2", "train" if name == "abcdefghij1" else "test") for name in ids
    ]
    assert rows[3]["text"] == "fast, loud rock"
    told, refused = told_splits(out / "annotations.csv")
    assert (told["abcdefghij1"], told["abcde-ghij3"], refused) == ("train", "test", [])


def test_a_part_is_exact(media: Path, tmp_path: Path) -> None:
    source, target = media / "abcdefghij1.mp4", tmp_path / "part.mp4"
    cut(source, 2.35, 4.35, target, "label")
    found = probe(target)
    assert (found.video_codec, found.audio_codec, found.width, found.height) == ("h264", "aac", 64, 48)
    assert found.duration_s == pytest.approx(2.0, abs=0.07)
    assert label_of(target) == "label"
    assert label_of(source) is None
    times = [0.1, 0.9, 1.7]
    got = frames_at(target, times, (64, 48)).astype(float)
    for wanted, near in (([2.35 + t for t in times], True), ([3.35 + t for t in times], False)):
        apart = np.abs(got - frames_at(source, wanted, (64, 48)).astype(float)).mean()
        assert (apart < 6) == near, apart
    heard, true = mono(target, 16000), mono(source, 16000, 2.35, 4.35)
    length = min(len(heard), len(true))
    assert length >= 31900
    assert np.corrcoef(heard[:length], true[:length])[0, 1] > 0.98
    assert np.corrcoef(heard[: length - 400], true[400:length])[0, 1] < 0.7, "25 ms later is another sound"


def test_turned_and_odd_pictures_stay_as_they_look(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", 7, 3.0, rotation=90)
    cut(source, 0.5, 2.5, tmp_path / "b.mp4", "")
    apart = np.abs(frames_at(source, [1.5], (48, 64)).astype(float) - frames_at(tmp_path / "b.mp4", [1.0], (48, 64)))
    assert apart.mean() < 8
    odd = write_media(tmp_path / "odd.mkv", blobs(8, 30, (63, 47)), np.stack([notes(8, 3, 44100)] * 2), rate_hz=44100,
                      container="matroska", pixels="yuv444p", audio="flac")  # fmt: skip
    cut(odd, 0.0, 2.0, tmp_path / "c.mp4", "")
    found = probe(tmp_path / "c.mp4")
    assert (found.width, found.height, found.channels, found.sample_rate_hz) == (64, 48, 2, 44100)


def test_parts_outside_the_media_are_refused(media: Path, tmp_path: Path) -> None:
    for start, end, reason in ((20.0, 30.0, "outside_media"), (4.0, 14.0, "too_short")):
        with pytest.raises(MediaError) as error:
            cut(media / "abcdefghij1.mp4", start, end, tmp_path / "x.mp4", "")
        assert error.value.reason == reason
    assert list(tmp_path.iterdir()) == []


def test_every_bad_row_is_named_and_none_is_fatal(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write_csv(
        tmp_path / "test.csv",
        ("abcdefghij1", "2", "4", "calm piano"), ("abcdefghij1", "0", "2", "again"), ("abcdefghij2", "4", "2", "backwards"),
        ("abcde-ghij3", "one", "2", "words"), ("-bcdefghij4", "1", "2", "  "), ("../etc", "1", "2", "path"), ("mute5", "1", "3", "no sound"),
        ("text6", "1", "3", "no video"), ("nowhere", "1", "3", "lost"), ("short", "1"),
    )  # fmt: skip
    headless = write_csv(tmp_path / "odd.csv", ("a", "b"), header=("video_id", "text"))
    out = tmp_path / "out"
    assert (
        main(
            [
                "import-annotations",
                "--csv",
                str(listed),
                "--csv",
                str(headless),
                "--media",
                str(media),
                "--out",
                str(out),
            ]
        )
        == 0
    )
    report = json.loads((out / "report.json").read_text())
    assert {(row["line"], row["reason"]) for row in report["refused"]} == {
        (3, "duplicate_id"), (4, "end_before_start"), (5, "bad_number"), (6, "empty_text"), (7, "bad_id"), (8, "no_audio"),
        (9, "not_media"), (11, "wrong_field_count"), (1, "missing_column"),
    }  # fmt: skip
    assert (report["used"], report["missing"]["ids"]) == (1, ["nowhere"])
    assert "column 'start' is missing" in next(
        r["detail"] for r in report["refused"] if r["reason"] == "missing_column"
    )
    said = capsys.readouterr().out
    assert "1  used (test 1), of 10 rows" in said
    assert "without a media file, 25.0%: nowhere" in said


def test_nothing_left_is_an_error(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = write_csv(tmp_path / "test.csv", ("nowhere", "1", "3", "lost"))
    command = ["import-annotations", "--csv", str(listed), "--media", str(media), "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert "none of 1 rows can be used: 1 without a media file" in capsys.readouterr().err
    assert not (tmp_path / "out/frozen.json").exists()
    for name in ("--media", "--csv"):
        with pytest.raises(Refusal, match="no such f"):
            bring([tmp_path / "no"] if name == "--csv" else [listed], tmp_path / "no", tmp_path / "out")


def test_the_list_is_frozen_and_later_imports_are_held_to_it(lists: list[Path], media: Path, tmp_path: Path) -> None:
    first = bring(lists, media, tmp_path / "first")
    frozen = tmp_path / "first/frozen.json"
    listed = json.loads(frozen.read_text())
    texts = {
        "abcdefghij1": "calm piano",
        "abcdefghij2": "fast, loud rock",
        "abcde-ghij3": "folk",
        "-bcdefghij4": "jazz",
    }
    entries = [{"id": name, "start": 1.5 if "-g" in name else 2.0, "end": 3.5 if "-g" in name else 4.0, "text": text, "split": ""}
               for name, text in texts.items()]  # fmt: skip
    assert listed["sha256"] == first["frozen"]["sha256"] == digest_of(entries) == digest_of(entries[::-1])
    assert (listed["clips"], listed["splits"]) == (4, {"test": 3, "train": 1})
    # Elsewhere there are fewer files, one more than the list knows, and a changed text.
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for name in ("abcdefghij1", "-bcdefghij4"):
        (fewer / f"{name}.mp4").symlink_to(media / f"{name}.mp4")
    (fewer / "new00000009.mp4").symlink_to(media / "abcdefghij1.mp4")
    write_csv(tmp_path / "test.csv", *((name, "2", "4", text) for name, text in
              (("abcdefghij2", "fast"), ("-bcdefghij4", "jazz"), ("new00000009", "new"))))  # fmt: skip
    second = bring(lists, fewer, tmp_path / "second", frozen)
    assert second["used"] == 2
    assert second["frozen"]["gone"] == ["abcde-ghij3", "abcdefghij2"]
    assert second["frozen"]["not_in_list"] == ["abcdefghij2", "gone0000001", "new00000009"]
    assert second["frozen"]["sha256"] == listed["sha256"] != second["frozen"]["sha256_now"]
    with pytest.raises(Refusal, match="not a list that `needledrop import-annotations` wrote"):
        bring(lists, media, tmp_path / "third", lists[0])


def test_what_was_cut_is_kept_also_when_the_media_go(lists: list[Path], media: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bring(lists, media, out)
    before = {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    annotations = (out / "annotations.csv").read_bytes()
    empty = tmp_path / "empty"
    empty.mkdir()
    again = bring(lists, empty, out)
    assert {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()} == before
    assert (again["used"], len(again["kept_without_media"]), again["frozen"]["gone"]) == (4, 4, [])
    assert (out / "annotations.csv").read_bytes() == annotations
    # One part is lost as well: it is gone from the list.
    (out / "clips/abcdefghij2.mp4").unlink()
    assert bring(lists, empty, out)["frozen"]["gone"] == ["abcdefghij2"]


def test_names_of_downloaded_files(tmp_path: Path) -> None:
    for name in (
        "x [ab].mp4",
        "ab.mp4",
        "x-ab.webm",
        "ab.part",
        "cab.mp4",
        "1ab2.mp4",
        "x_ab_y.mp4",
        "AB.mp4",
        ".ab.mp4",
        "ab.f137.mp4",
    ):
        (tmp_path / name).touch()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/ab.mp4").touch()
    found = find_media(tmp_path, {"ab", "zz"}, tmp_path / "clips")
    assert [path.name for path in found["ab"]] == ["ab.mp4", "x [ab].mp4", "x-ab.webm", "ab.f137.mp4", "x_ab_y.mp4"]
    assert set(found) == {"ab"}
    assert [split_of(Path(name)) for name in ("test.csv", "Clips-Train.csv", "latest.csv")] == ["test", "train", ""]


def test_told_splits_hold_and_train_leaves_clips_for_val(tmp_path: Path) -> None:
    splits = read_all(ROOT / "params.yaml").ingest.splits
    clips = [
        {"video_id": f"v{at}", "track_id": None, "artist_id": f"a{at // 2}", "sha256": str(at)} for at in range(400)
    ]
    told = ["test" if at % 4 == 0 else "train" for at in range(400)]
    found = assign(clips, [], splits, told)
    assert all(found[at] == found[at + 1] == "test" for at in range(0, 400, 4)), "an artist of the test set is all test"
    rest = [found[at] for at in range(400) if at % 4 > 1]
    assert set(rest) == {"train", "val"}
    assert rest.count("val") / 200 == pytest.approx(splits.val / (splits.val + splits.train), abs=0.08)
    assert assign(clips, [], splits) == assign(clips, [], splits, [None] * 400)
    path = write_csv(tmp_path / "a.csv", ("a", "0", "1", "x", "train"), ("a", "0", "1", "x", "test"), ("b", "0", "1", "x", "dev"),
                     ("c", "0", "1", "x", ""), header=("video_id", "start", "end", "text", "split"))  # fmt: skip
    known, refused = told_splits(path)
    assert known == {"a": "test"}
    assert [(row["uri"].rpartition(":")[2], row["reason"]) for row in refused] == [("4", "bad_split")]
