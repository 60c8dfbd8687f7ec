"""Folders: nasty names and links, what counts as a change, the user's own csv files."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components import tables
from components.corpus.build import build_corpus
from components.corpus.collected import Collected
from components.corpus.listing import list_folder, observe
from components.corpus.params import FolderCorpus


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"one")
    (folder / "deep" / "er" / "b.mkv").write_bytes(b"three")
    return folder


@pytest.fixture
def section(tmp_path: Path, root: Path) -> FolderCorpus:
    """A folder corpus with its own small seed library, so that none is rendered."""
    library = tmp_path / "library"
    (library / "x").mkdir(parents=True)
    (library / "x" / "s1.m4a").write_bytes(b"sound")
    (library / "seed_tags.csv").write_text("path,group,name\nx/s1.m4a,genres,folk\nx/s1.m4a,moods,sad\n")
    return make(root, source=tmp_path / "listing.json", seed_tags=library / "seed_tags.csv")


def make(root: Path, source: Path, **changes: object) -> FolderCorpus:
    fields = {"kind": "folder", "root": root, "source": source, "annotations": None, "seed_tags": None, "licence": None}
    fields = {key: str(value) if isinstance(value, Path) else value for key, value in {**fields, **changes}.items()}
    return FolderCorpus.model_validate({**fields, "seed": 1, "seed_clips": 20, "clip_s": 4.0, "workers": 1})


def build(section: FolderCorpus, out: Path) -> Collected:
    return build_corpus(section, Path(section.source), out / "media", out / "seed")


def refusals(listing: dict) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in listing["refused"]}


def test_every_regular_file_is_listed_with_size_and_time(root: Path) -> None:
    listing = list_folder(root)
    assert [(entry["path"], entry["bytes"]) for entry in listing["files"]] == [("a.mp4", 3), ("deep/er/b.mkv", 5)]
    assert listing["files"][0]["fingerprint"] == f"3-{(root / 'a.mp4').stat().st_mtime_ns}"
    assert listing["refused"] == [] and listing["kind"] == "folder" and listing["root"] == str(root)


def test_odd_names_are_names(root: Path) -> None:
    names = [
        " two  spaces .mp4",
        "line\nbreak.mp4",
        "-rf.mp4",
        "naïve 音楽 🎵.mp4",
        ".hidden.mp4",
        "http:x.mp4",
        "a|b'\".mp4",
    ]
    for name in names:
        (root / name).write_bytes(b"x")
    listing = json.loads(json.dumps(list_folder(root)))
    assert {*names, "a.mp4", "deep/er/b.mkv"} == {entry["path"] for entry in listing["files"]}
    assert listing["refused"] == []


def test_links_are_followed_inside_and_refused_outside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.mp4").write_bytes(b"secret")
    (tmp_path / "media-2").mkdir()  # its name begins like the root's
    (tmp_path / "media-2" / "c.mp4").write_bytes(b"c")
    for name, target in {
        "inside.mp4": root / "deep" / "er" / "b.mkv",
        "out.mp4": tmp_path / "secret" / "key.mp4",
        "out-folder": tmp_path / "secret",
        "neighbour.mp4": Path("../media-2/c.mp4"),
        "gone.mp4": root / "nothing",
        "round.mp4": root / "round.mp4",
        "up": root,
        "twice.mp4": root / "out.mp4",
    }.items():
        (root / name).symlink_to(target)
    listing = list_folder(root)
    assert [entry["path"] for entry in listing["files"]] == ["a.mp4", "deep/er/b.mkv", "inside.mp4"]
    assert refusals(listing) == {
        "out.mp4": "outside_root",
        "out-folder": "outside_root",
        "neighbour.mp4": "outside_root",
        "twice.mp4": "outside_root",
        "gone.mp4": "broken_link",
        "round.mp4": "broken_link",
        "up": "linked_folder",
    }


def test_a_name_that_is_not_utf8_is_refused_by_its_bytes(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.mp4")).write_bytes(b"x")
    listing = json.loads(json.dumps(list_folder(root)))
    assert refusals(listing) == {"caf\\xe9.mp4": "undecodable_name"}
    assert "b'caf\\xe9.mp4'" in listing["refused"][0]["detail"]
    assert len(listing["files"]) == 2


def test_pipes_are_refused_without_being_opened(root: Path) -> None:
    os.mkfifo(root / "pipe.mp4")
    assert refusals(list_folder(root)) == {"pipe.mp4": "not_a_file"}


def test_a_root_that_is_a_link_is_allowed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert len(list_folder(tmp_path / "link")["files"]) == 2


def test_missing_and_empty_roots_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus\.root: no such folder: .*nowhere"):
        list_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"corpus\.root: no files in .*empty"):
        list_folder(tmp_path / "empty")


name = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..")
)


@settings(max_examples=30, deadline=None)
@given(names=st.sets(name, min_size=1, max_size=8))
def test_any_names_are_listed_once_and_in_order(names: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("names")
    for one in names:
        (folder / one).write_bytes(b"x")
    listing = json.loads(json.dumps(list_folder(folder)))
    assert [entry["path"] for entry in listing["files"]] == sorted(names)


def test_the_listing_changes_only_when_the_folder_does(section: FolderCorpus, root: Path) -> None:
    source = Path(section.source)
    assert observe(section) is True
    written = source.stat().st_mtime_ns
    assert observe(section) is False
    assert source.stat().st_mtime_ns == written
    (root / "new.mp4").write_bytes(b"new")
    assert observe(section) is True
    os.utime(root / "new.mp4", ns=(1, 1))
    assert observe(section) is True
    (root / "new.mp4").unlink()
    assert observe(section) is True
    source.write_text("not json")
    assert observe(section) is True and observe(section) is False


def test_a_change_of_the_seed_library_is_seen(section: FolderCorpus) -> None:
    observe(section)
    (Path(section.seed_tags or "").parent / "x" / "s1.m4a").write_bytes(b"other sound")
    assert observe(section) is True


def test_media_stay_where_they_are(section: FolderCorpus, root: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "media").mkdir(parents=True)
    (tmp_path / "out" / "media" / "demo-00001.mp4").write_bytes(b"of an earlier corpus")
    (root / "gone.mp4").symlink_to("nothing")
    observe(section)
    corpus = build(section, tmp_path / "out")
    assert list((tmp_path / "out" / "media").iterdir()) == []
    assert [row["uri"] for row in corpus.inventory] == [f"{root}/a.mp4", f"{root}/deep/er/b.mkv"]
    assert corpus.truth.num_rows == 0 and not corpus.truth.schema.metadata
    assert corpus.annotations == b"video_id,start,end,text\n"
    assert [(row["uri"], row["stage"], row["reason"]) for row in corpus.refused] == [
        (f"{root}/gone.mp4", "corpus", "broken_link")
    ]
    paths = [tmp_path / name for name in ("i.parquet", "a.csv", "s.csv", "t.parquet", "r.parquet")]
    corpus.write(*paths)
    assert len(tables.read_rows(paths[0], tables.INVENTORY)) == 2
    assert len(tables.read_rows(paths[4], tables.QUARANTINE)) == 1


def test_annotations_are_handed_on_byte_by_byte_and_not_taken_for_media(
    section: FolderCorpus, root: Path, tmp_path: Path
) -> None:
    content = b"\xef\xbb\xbfvideo_id,start,end,text\r\na,0,10,caf\xe9\r\n"
    (root / "notes.csv").write_bytes(content)
    named = section.model_copy(update={"annotations": str(root / "notes.csv")})
    observe(named)
    corpus = build(named, tmp_path / "out")
    assert corpus.annotations == content
    assert "notes.csv" not in " ".join(row["uri"] for row in corpus.inventory)


def test_seed_library_is_copied_and_bad_paths_are_refused(section: FolderCorpus, tmp_path: Path) -> None:
    tags = Path(section.seed_tags or "")
    (tmp_path / "secret.m4a").write_bytes(b"secret")
    (tags.parent / "link.m4a").symlink_to(tmp_path / "secret.m4a")
    with tags.open("a") as out:
        out.write("../secret.m4a,genres,rock\n/etc/passwd,genres,rock\nnone.m4a,genres,rock\nlink.m4a,genres,rock\n")
    observe(section)
    corpus = build(section, tmp_path / "out")
    assert list(csv.reader(io.StringIO(corpus.seed_tags.decode())))[1:] == [
        ["seed/x/s1.m4a", "genres", "folk"],
        ["seed/x/s1.m4a", "moods", "sad"],
    ]
    assert (tmp_path / "out" / "seed" / "x" / "s1.m4a").read_bytes() == b"sound"
    assert {row["uri"]: row["reason"] for row in corpus.refused} == {
        "../secret.m4a": "outside_root",
        "/etc/passwd": "outside_root",
        "link.m4a": "outside_root",
        "none.m4a": "missing_file",
    }
    kept = (tmp_path / "out" / "seed" / "x" / "s1.m4a").stat().st_mtime_ns
    build(section, tmp_path / "out")
    assert (tmp_path / "out" / "seed" / "x" / "s1.m4a").stat().st_mtime_ns == kept


def test_mistakes_are_named(section: FolderCorpus, root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus\.annotations: no such file: /nowhere\.csv"):
        observe(section.model_copy(update={"annotations": "/nowhere.csv"}))
    Path(section.seed_tags or "").write_text("path,name\nx/s1.m4a,folk\n")
    with pytest.raises(ValueError, match="column 'group' is missing"):
        observe(section)
    Path(section.source).write_text(json.dumps({"kind": "folder", "root": "/else", "files": [], "refused": []}))
    with pytest.raises(ValueError, match="lists /else, not"):
        build(section, tmp_path / "out")
    Path(section.source).write_text("{}")
    with pytest.raises(ValueError, match="not a listing"):
        build(section, tmp_path / "out")
    shutil.rmtree(root)
    with pytest.raises(ValueError, match=r"corpus\.root"):
        observe(section)


def test_a_folder_of_refused_names_alone_stops_the_stage(section: FolderCorpus, root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()
    (root / "gone.mp4").symlink_to("nothing")
    observe(section)
    with pytest.raises(ValueError, match=r"no usable file in .*1 refused"):
        build(section, tmp_path / "out")
