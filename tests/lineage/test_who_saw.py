"""Where a track went: files, captions of others, versions; and what its removal would rebuild."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from components.tables import read_rows
from flows.errors import USAGE, Refusal
from flows.lineage.purge import plan
from flows.lineage.saw import clip_rows, said, who_saw
from flows.lineage.track import find_track
from flows.lineage.written import write_lineage
from flows.release.clips import CLIPS, SCHEMA

from .conftest import Shelf


def files(seen: dict[str, Any]) -> dict[str, tuple[int, dict[str, int]]]:
    return {found["path"]: (found["rows"], found["mentions"]) for found in seen["workspace"]["files"]}


def test_what_a_run_keeps_says_split_features_index_and_exemplars(shelf: Shelf, tmp_path: Path) -> None:
    write_lineage(shelf.graph, shelf.workspace, tmp_path)
    rows = {row["clip_id"]: row for row in read_rows(tmp_path / CLIPS, SCHEMA)}
    assert len(rows) == 13
    assert rows["clip-00"]["exemplar_ids"] == ["clip-01", "clip-02"]
    assert [name for name, row in rows.items() if row["trained"]] == [
        "clip-00", "clip-01", "clip-04", "clip-05", "clip-08", "clip-09",
    ]  # fmt: skip
    assert (rows["clip-11"]["split"], rows["clip-11"]["indexed"]) == ("test", False)
    assert (rows["clip-01"]["described"], rows["clip-02"]["described"]) == (True, False)
    assert rows["seed-1"]["split"] == "seed"


def test_every_file_that_holds_a_track_is_found_and_no_other(shelf: Shelf) -> None:
    found = files(who_saw(shelf.platform, "track-01"))
    assert found == {
        "data/manifest.parquet": (1, {}),
        "data/annotations.parquet": (1, {}),
        "data/captions.parquet": (1, {"exemplar_ids": 1}),
        "data/captions-quality/audit.html": (0, {"text": 1}),
        "data/features/video/index.parquet": (1, {}),
        "data/features/music/index.parquet": (1, {}),
        "data/features/text/index.parquet": (1, {}),
        "data/evaluation/ranks.parquet": (1, {"top_clip_id": 1}),
        "data/index/catalogue.parquet": (1, {}),
    }


def test_versions_say_what_they_had_of_it_and_unknown_ones_are_named(shelf: Shelf) -> None:
    seen = who_saw(shelf.platform, "clip-01")
    first, second = seen["versions"]
    assert (first["version"], first["trained"], first["indexed"], first["exemplar_for"]) == (1, True, True, 1)
    assert (first["aliases"], first["state"]) == (["champion"], "champion")
    # Version 2 was made without the clip, but a caption written with it as an exemplar is in it.
    assert (second["splits"], second["trained"], second["exemplar_for"]) == ([], False, 1)
    assert said(second) == "exemplar for 1 captions"
    assert seen["unknown"] == [3]


@pytest.mark.parametrize("name", ["clip-05", "track-05", "video-05", "media/clip-05.mp4", "sha-clip-05", "5-track"])
def test_a_track_goes_by_any_of_its_ids(shelf: Shelf, name: str) -> None:
    rows = clip_rows(shelf.graph, shelf.workspace.root)
    rows.append(rows[5] | {"clip_id": "5-track-second"})  # another clip of the same track, by the beginning of its id
    assert find_track(rows, name).clips == ("5-track-second", "clip-05")


def test_a_seed_track_is_found_too(shelf: Shelf) -> None:
    seen = who_saw(shelf.platform, "seed")
    assert said(seen["versions"][0]) == "tagger learnt of it"


@pytest.mark.parametrize(("name", "words"), [("nobody", "no clip"), ("clip-0", "10 tracks"), ("", "no clip")])
def test_no_track_or_several_are_refused(shelf: Shelf, name: str, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        find_track(clip_rows(shelf.graph, shelf.workspace.root), name)


def test_a_track_that_is_gone_from_the_workspace_is_still_found_in_versions(shelf: Shelf, tmp_path: Path) -> None:
    manifest = shelf.workspace.root / "data/manifest.parquet"
    shutil.move(manifest, tmp_path / "away")
    try:
        seen = who_saw(shelf.platform, "track-08")
    finally:
        shutil.move(tmp_path / "away", manifest)
    assert seen["workspace"]["clips"] == [] and seen["versions"][0]["trained"]


def test_a_plan_names_copies_rows_stages_and_versions_and_changes_nothing(shelf: Shelf) -> None:
    before = {path: path.stat().st_mtime_ns for path in (shelf.workspace.root / "data").rglob("*")}
    made = plan(shelf.platform, "track-01", True)
    assert made["remove"] == ["media/clip-01.mp4"] and made["copies"] == ["copy.mp4"]
    stages = {step["name"]: step["what"] for step in made["stages"]}
    assert stages["captioning"] == stages["features@text"].replace("11", "12") == "1 of 12 rows; drops its own"
    assert stages["features@video"] == "0 of 11 rows; drops its own"
    assert stages["training"] == "the whole stage" and "corpus" not in stages
    assert [version["version"] for version in made["retire"]] == [1, 2] and made["unknown"] == [3]
    assert plan(shelf.platform, "track-11", True)["retire"][0]["held"] == "was tested on it"
    assert before == {path: path.stat().st_mtime_ns for path in (shelf.workspace.root / "data").rglob("*")}


def test_without_plan_nothing_is_done(shelf: Shelf) -> None:
    with pytest.raises(Refusal, match="--plan") as refused:
        plan(shelf.platform, "track-01", False)
    assert refused.value.code == USAGE
