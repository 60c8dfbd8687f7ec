"""Every kind of bad file gets its reason, every good file becomes a clip, and nothing is decoded twice."""

import os
import shutil
import signal
import threading
import time
from multiprocessing import active_children
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.code import covered
from components.ingest.cache import Cache, spec_digest
from components.ingest.examine import examine, middle
from components.ingest.params import Ingest
from components.ingest.run import Result, ingest
from components.ingest.workers import Job, examine_all
from tests.ingest.conftest import Run, listed
from tests.ingest.media_look_alike import blobs, notes, write_clip, write_media
from tests.traced import ran

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "video_clips"


@pytest.fixture(scope="module")
def done(media: Path, params: Ingest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("run")
    (folder / "annotations.csv").write_text("video_id,start,end,text\nplain again,0,3,x\n")
    (folder / "seed_tags.csv").write_text("path,group,name\n")
    tables = folder / "annotations.csv", folder / "seed_tags.csv", folder / "splits.parquet"
    return ingest(listed(media), [], *tables, params, folder / "cache")


def test_each_bad_file_is_refused_for_its_own_reason(done: Result, media: Path) -> None:
    found = {Path(row["uri"]).name: row["reason"] for row in done.quarantine if ".csv:" not in row["uri"]}
    assert found == {
        "mute.mp4": "no_audio",
        "blind.wav": "no_video",
        "silent.mp4": "silent",
        "black.mp4": "black",
        "short.mp4": "too_short",
        "too long.mp4": "too_long",
        "zero.mp4": "empty_file",
        "text.mp4": "not_media",
        "playlist.mp4": "not_media",
        "cut.mkv": "truncated",
        "cut.mp4": "truncated",
        "corrupt.mp4": "corrupt",
        "scratched.mp4": "corrupt",
        "twin of plain.mp4": "duplicate",
        "plain again.mp4": "near_duplicate",
        "link out.mp4": "outside_root",
        "gone.mp4": "unreadable",
    }
    assert all(row["detail"] and row["stage"] == "ingest" for row in done.quarantine)


def test_a_copy_names_the_file_that_is_kept(done: Result, media: Path) -> None:
    details = {Path(row["uri"]).name: row["detail"] for row in done.quarantine}
    kept = media / "accepted" / "plain.mp4"
    assert details["plain again.mp4"] == f"same picture and sound as {kept}"
    assert details["twin of plain.mp4"] == f"same bytes as {kept}"


def test_every_good_file_is_a_clip_whatever_its_name(done: Result, media: Path) -> None:
    assert {Path(row["uri"]) for row in done.manifest} == set((media / "accepted").iterdir())
    assert len({row["clip_id"] for row in done.manifest}) == len(done.manifest)


def test_the_same_music_is_one_track_in_one_split_and_the_same_picture_is_not(done: Result) -> None:
    by_name = {Path(row["uri"]).name: row for row in done.manifest}
    original, music, picture = by_name["plain.mp4"], by_name["same music.mp4"], by_name["same picture.mp4"]
    assert (music["track_id"], music["split"]) == (original["track_id"], original["split"])
    assert picture["track_id"] != original["track_id"]
    assert len({row["track_id"] for row in done.manifest}) == len(done.manifest) - 1


def test_a_long_file_gives_its_middle(done: Result) -> None:
    row = next(row for row in done.manifest if row["uri"].endswith("long.mp4"))
    assert (row["start_s"], row["end_s"]) == (2.0, 5.0)
    assert row["duration_s"] == pytest.approx(7.0, abs=0.1)


def test_an_annotation_of_a_refused_file_says_why(done: Result) -> None:
    row = next(row for row in done.quarantine if row["uri"].endswith("annotations.csv:2"))
    assert row["reason"] == "unknown_video" and "near_duplicate" in row["detail"]


def test_an_unchanged_folder_is_not_decoded_again_and_a_lost_cache_changes_nothing(
    run: Run, params: Ingest, tmp_path: Path
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for seed in range(4):
        write_clip(folder / f"{seed}.mp4", seed)
    (folder / "bad.mp4").write_text("no")
    first = run(listed(folder))
    again = run(listed(folder))
    assert (first.decoded, again.decoded) == (5, 0)
    assert (again.manifest, again.quarantine) == (first.manifest, first.quarantine)

    write_clip(folder / "4.mp4", 4)
    (folder / "0.mp4").unlink()
    changed = run(listed(folder))
    assert changed.decoded == 1
    shards = list((tmp_path / "cache").iterdir())
    assert len(shards) == 1 and pq.ParquetFile(shards[0]).metadata.num_rows == 5, "gone files leave the cache"

    shards[0].write_bytes(b"not a table")
    names = ("manifest", "quarantine", "annotated", "seed", "splits")
    outputs = []
    for number, result in enumerate((changed, run(listed(folder)))):
        result.write(*(tmp_path / f"{number}-{name}" for name in names))
        outputs.append([(tmp_path / f"{number}-{name}").read_bytes() for name in names])
    assert outputs[0] == outputs[1]
    shutil.rmtree(tmp_path / "cache")


def test_a_compilation_of_two_artists_moves_none_of_their_clips(tmp_path: Path, run: Run) -> None:
    """One track by two artists of two sides, in two files: the first file joins its artist, the second is left out."""
    folder = tmp_path / "media"
    folder.mkdir()
    for seed in range(8):
        write_clip(folder / f"{seed}.mp4", seed)
    rows = [{**row, "artist_id": f"artist {at % 4}"} for at, row in enumerate(listed(folder))]
    first = run(rows)
    before = {row["clip_id"]: row["split"] for row in first.manifest}
    first.write(*(tmp_path / f"{name}.parquet" for name in ("manifest", "quarantine", "annotated", "seed", "splits")))
    by_split = {row["split"]: row["uri"] for row in first.manifest}
    assert len(by_split) > 1, "the four artists are on two sides at least"
    one, other = (next(row for row in rows if row["uri"] == uri) for uri in list(by_split.values())[:2])
    new = [
        {**listed(write_clip(folder / name, seed).parent)[0], "uri": str(folder / name), "artist_id": artist, "track_id": track}
        for name, seed, artist, track in (
            ("8.mp4", 8, one["artist_id"], "shared"),
            ("9.mp4", 9, other["artist_id"], "shared"),
        )
    ]  # fmt: skip
    after = run([*rows, *new])
    assert {row["clip_id"]: row["split"] for row in after.manifest if row["clip_id"] in before} == before
    (refused,) = [row for row in after.quarantine if row["reason"] == "between_splits"]
    assert (
        Path(refused["uri"]).name in ("8.mp4", "9.mp4") and "left out, so that none changes sides" in refused["detail"]
    )
    assert len(after.manifest) == 9, "of the two new ones the first joins its artist"


def test_findings_are_published_while_the_run_goes_on(tmp_path: Path, params: Ingest) -> None:
    finding = examine(write_clip(tmp_path / "a.mp4", 1), params.limits, picture=True)
    cache = Cache(tmp_path / "cache", spec_digest(params.limits))
    for number in range(130):
        cache.put((f"{number}.mp4", "mark", True), finding)
    survivor = Cache(tmp_path / "cache", spec_digest(params.limits))  # as after a kill: no close()
    assert sum(survivor.get((f"{number}.mp4", "mark", True)) == finding for number in range(130)) == 128
    other = Cache(tmp_path / "cache", spec_digest(params.limits.model_copy(update={"min_s": 1.0})))
    assert other.get(("0.mp4", "mark", True)) is None


def test_a_killed_worker_costs_no_file(media: Path, params: Ingest) -> None:
    files = sorted((media / "accepted").iterdir())
    jobs = [Job((n, path), path, picture=True) for n in range(3) for path in files]

    def assassin() -> None:
        time.sleep(1.0)
        for child in active_children()[:1]:
            os.kill(child.pid or 0, signal.SIGKILL)

    thread = threading.Thread(target=assassin)
    thread.start()
    results = dict(examine_all(jobs, params.decoding, params.limits))
    thread.join()
    assert set(results) == {job.key for job in jobs}
    assert {finding.reason for finding in results.values()} == {""}


def test_a_file_that_kills_every_worker_or_hangs_is_refused_alone(media: Path, params: Ingest) -> None:
    jobs = [Job("a", media / "accepted" / "plain.mp4", picture=True)]
    hasty = params.decoding.model_copy(update={"file_limit_s": 0.01})
    assert [finding.reason for _, finding in examine_all(jobs, hasty, params.limits)] == ["timeout"]
    cramped = params.decoding.model_copy(update={"memory_limit_mib": 48})
    ((_, finding),) = examine_all(jobs, cramped, params.limits)
    assert finding.reason in ("decoder_crash", "unreadable")


def test_picture_and_sound_of_unequal_length_give_what_they_share(tmp_path: Path, params: Ingest) -> None:
    path = write_media(tmp_path / "a.mkv", blobs(1, 60, (64, 48)), notes(1, 2.5, 16000), container="matroska")
    finding = examine(path, params.limits, picture=True)
    assert finding.reason == "" and finding.start_s == 0.0
    assert finding.end_s == pytest.approx(2.5, abs=0.1) and finding.duration_s == pytest.approx(6.0, abs=0.1)


def test_the_middle_of_a_file_is_on_whole_milliseconds() -> None:
    assert middle(60.0, 10.0) == (25.0, 35.0)
    assert middle(4.0005, 10.0) == (0.0, 4.0)
    assert middle(10.0011, 10.0) == (0.0, 10.0)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="../shared/data/video_clips is not here")
def test_real_dance_videos_with_other_music_are_no_duplicates(params: Ingest) -> None:
    from components.ingest.copies import near_copies

    files = sorted(CLIPS.glob("v2meow/table3_row*_col*.mp4"))[:8] + sorted(CLIPS.glob("aichoreographer/*.mp4"))
    findings = [examine(path, params.limits.model_copy(update={"max_s": 60.0}), picture=True) for path in files]
    assert [finding.reason for finding in findings] == [""] * len(files)
    report = near_copies(findings, params.copies)
    assert report.near == {} and report.same_sound == []


def test_all_that_finds_is_covered(media: Path, params: Ingest) -> None:
    listed = covered(examine)
    for name in ("plain.mp4", "cut.mp4"):
        path = next(media.rglob(name))
        used = ran(lambda path=path: examine(path, params.limits, True), listed)
        assert "components.ingest.scan:scan" in used and used <= set(listed)
