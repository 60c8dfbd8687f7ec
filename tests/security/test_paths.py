"""Names from outside never lead out of a folder: S3 keys, listings, manifests, tables that people write."""

import csv
import json
import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.containers import MediaError
from components.corpus.bucket import unsafe
from components.corpus.companions import read_seed_tags
from components.corpus.folder import read_listing
from components.corpus.listing import list_folder
from components.ingest.paths import inside

# Text with the parts that traversal is made of, so that they come up often.
PARTS = st.sampled_from(["..", ".", "", "a", "b.mp4", "~", "..\\", "%2e%2e", "files.json", ".parts", "\0", "é", "\n"])
NAMES = st.one_of(st.lists(PARTS, min_size=1, max_size=6).map("/".join), st.text(max_size=30))


@given(NAMES)
def test_a_key_that_is_let_through_stays_below_the_media_folder(key: str) -> None:
    if unsafe(key, {key}) is None:
        media = "/media/folder"
        target = os.path.normpath(f"{media}/{key}")
        assert target.startswith(f"{media}/") and target == f"{media}/{key}"
        assert PurePosixPath(key).parts[0] not in ("files.json", ".parts")


@pytest.mark.parametrize(
    "key", ["../a", "a/../../b", "/etc/passwd", "./a", "a//b", "a\0b", "files.json", ".parts/x", "a/.."]
)
def test_keys_that_lead_elsewhere_are_refused(key: str) -> None:
    assert unsafe(key, {key})


def test_a_key_below_another_object_is_refused() -> None:
    assert unsafe("a/b", {"a", "a/b"})


@given(NAMES)
def test_a_path_of_a_manifest_that_may_be_read_lies_in_the_root(name: str) -> None:
    root = Path("/srv/corpus")
    for uri in (name, f"/srv/corpus/{name}", f"/srv/corpus/../{name}"):
        try:
            found = inside(uri, root)
        except MediaError:
            continue
        assert Path(os.path.normpath(found)).is_relative_to(root)


@pytest.mark.parametrize("name", ["../secret.wav", "/etc/passwd", "a/../../secret.wav", "", "./a.wav", "link.wav"])
def test_a_seed_library_names_files_beside_itself_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.wav").write_bytes(b"x")
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"x")
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    with (folder / "seed_tags.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("path", "group", "name"), (name, "moods", "calm"), ("a.wav", "moods", "calm")])
    tags = read_seed_tags(folder / "seed_tags.csv")
    assert list(tags.files) == ["a.wav"]
    assert len(tags.refused) == 1


def test_a_folder_is_listed_without_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"x")
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"x")
    (folder / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "up").symlink_to(tmp_path)
    listing = list_folder(folder)
    assert [entry["path"] for entry in listing["files"]] == ["a.mp4"]
    assert {entry["reason"] for entry in listing["refused"]} == {"outside_root"}


@pytest.mark.parametrize("path", ["../out.mp4", "/tmp/out.mp4", "a/../../out.mp4"])
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_listing_that_was_tampered_with_is_refused(tmp_path: Path, kind: str, path: str) -> None:
    entry = {"path": path, "bytes": 1, "fingerprint": "1-1"}
    listing = {"kind": kind, "root": "r", "files": [entry], "refused": []}
    (tmp_path / "listing.json").write_text(json.dumps(listing))
    with pytest.raises(ValueError, match=r"listing\.json"):
        read_listing(tmp_path / "listing.json", kind, "r")
