"""The stage: sources to stores, refused files, increments, segments, params."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components import tables
from components.features.compute import quarantine_rows, require_passed, update_features
from components.features.extractor import build_extractor
from components.features.params import EmbeddedParams, FeaturesParams
from components.features.segments import segment_masks, segment_starts
from components.features.source import Source, read_sources
from components.settings import ParamsError, parse_section, read_params
from components.store import FeatureStore


def sources_of(paths: list[Path], end_s: float = 2.0) -> list[Source]:
    return [Source(f"c{at:02d}", f"key {path.name}", uri=str(path), end_s=end_s) for at, path in enumerate(paths)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("modality", ["video", "music"])
def test_one_process_and_two_give_the_same_bytes(
    section: EmbeddedParams, clips: list[Path], tmp_path: Path, modality: str
) -> None:
    many = sources_of(clips * 7)  # enough for several processes
    for workers in (1, 2):
        extractor = build_extractor(section.model_copy(update={"workers": workers}), modality)
        report = update_features(many, extractor, tmp_path / str(workers), 16)
        assert report.rows == len(many) and not report.refused
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.parametrize("modality", ["video", "music"])
def test_more_clips_compute_only_those(
    section: EmbeddedParams, clips: list[Path], tmp_path: Path, modality: str
) -> None:
    extractor = build_extractor(section, modality)
    update_features(sources_of(clips)[1:], extractor, tmp_path / "grown", 4)
    report = update_features(sources_of(clips), extractor, tmp_path / "grown", 4)
    assert (report.computed, report.kept) == (1, 5)
    update_features(sources_of(clips), extractor, tmp_path / "scratch", 4)
    assert contents(tmp_path / "grown") == contents(tmp_path / "scratch")


def test_bad_files_are_quarantined_and_the_others_go_on(
    section: EmbeddedParams, clips: list[Path], write_media: Callable[..., Path], tmp_path: Path
) -> None:
    silent_film = write_media("silent.mp4", np.zeros((5, 48, 64, 3), np.uint8), None)
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(b"not media" * 100)
    paths = [clips[0], silent_film, tmp_path / "zero.mp4", tmp_path / "noise.mp4", tmp_path / "gone.mp4"]
    sources = sources_of(paths)
    report = update_features(sources, build_extractor(section, "music"), tmp_path / "s", 4)
    rows = quarantine_rows(report, sources)
    assert report.rows == 1
    assert [(row["uri"], row["stage"]) for row in rows] == [(str(path), "features") for path in paths[1:]]
    assert [row["reason"] for row in rows] == ["no_audio", "empty_file", "not_media", "unreadable"]


def test_a_changed_param_is_another_spec_but_workers_are_not(section: EmbeddedParams) -> None:
    def spec(**update: object) -> dict:
        return build_extractor(section.model_copy(update=update), "music").spec()

    assert spec() == spec(workers=7) == spec(shard_rows=1)
    assert spec() != spec(segment_s=3.0)
    assert spec() != spec(music=section.music.model_copy(update={"hop": 128}))
    assert spec() == spec(video=section.video.model_copy(update={"width": 64}))


def test_keys_follow_content_not_place(tmp_path: Path) -> None:
    row = {"clip_id": "c", "uri": "a.mp4", "sha256": "f" * 64, "start_s": 0.0, "end_s": 8.0, "tags": []}

    def key(**update: object) -> str:
        tables.write_rows(tmp_path / "seed.parquet", [row | update], tables.SEED)
        return read_sources(tmp_path / "seed.parquet", "music")[0].key

    assert key() == key(uri="elsewhere/b.mp4")
    assert len({key(), key(sha256="0" * 64), key(start_s=1.0), key(end_s=7.0)}) == 4


def test_a_table_of_the_wrong_kind_is_named(tmp_path: Path) -> None:
    tables.write_rows(tmp_path / "q.parquet", [], tables.QUARANTINE)
    with pytest.raises(ValueError, match=r"q\.parquet: column 'clip_id' is missing; text features need clip_id, text"):
        read_sources(tmp_path / "q.parquet", "text")


@settings(max_examples=40, deadline=None)
@given(st.floats(0.2, 60), st.floats(0.5, 20), st.integers(1, 32))
def test_segments_lie_inside_the_clip_in_order(duration_s: float, segment_s: float, most: int) -> None:
    starts = segment_starts(duration_s, segment_s, most)
    assert 1 <= len(starts) <= most and starts[0] == 0 and starts == sorted(starts)
    assert starts[-1] + segment_s <= max(duration_s, segment_s) + 1e-6
    masks = segment_masks(np.arange(max(1, int(duration_s * 4))) / 4, starts, segment_s)
    assert masks.any(axis=1).all()


def test_whole_segments_tile_the_clip() -> None:
    assert segment_starts(8.0, 2.0, 8) == [0, 2, 4, 6]
    assert segment_starts(8.0, 2.0, 3) == [0, 3, 6]
    assert segment_starts(1.0, 2.0, 8) == [0]
    masks = segment_masks(np.arange(8) / 1.0, [0.0, 2.0, 4.0, 6.0], 2.0)
    np.testing.assert_array_equal(masks.sum(axis=0), 1)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("segment_s",), 0, "features.segment_s"),
        (("workers",), "two", "features.workers"),
        (("music", "hop"), 5000, "features.music.hop"),
        (("music", "hop"), 2048, "music.hop: must not exceed music.window"),
        (("text", "char_ngram_min"), 6, "text.char_ngram_min: must not exceed"),
        (("video", "stills_per_s"), 10.1, "features.video.stills_per_s"),
        (("kind",), "clip", "features: input tag 'clip'"),
        (("segments",), 3, "features.segments: unknown key"),
    ],
)
def test_wrong_params_are_named(path: tuple[str, ...], value: object, said: str) -> None:
    tree = read_params()
    place = tree["features"]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(ParamsError) as error:
        parse_section(FeaturesParams, "features", tree)
    line = str(error.value)
    assert said in line and "\n" not in line


def test_nothing_runs_on_a_failed_verdict(tmp_path: Path) -> None:
    verdict = tmp_path / "verdict.json"
    verdict.write_text('{"passed": false}')
    with pytest.raises(ValueError, match="did not pass"):
        require_passed(verdict)
    verdict.write_text("[]")
    with pytest.raises(ValueError, match="not a verdict"):
        require_passed(verdict)


def test_the_command_writes_store_and_quarantine(tmp_path: Path) -> None:
    rows = [{"clip_id": "b", "text": "Warm folk.", "line": 2}, {"clip_id": "a", "text": "!!!", "line": 3}]
    tables.write_rows(tmp_path / "annotations.parquet", rows, tables.ANNOTATIONS)
    (tmp_path / "verdict.json").write_text('{"passed": true}')
    places = {"rows": "annotations.parquet", "verdict": "verdict.json", "store": "text", "quarantine": "q.parquet"}
    command = [sys.executable, "-m", "components.features", "--modality", "text"]
    command += [word for name, place in places.items() for word in (f"--{name}", str(tmp_path / place))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "features text: 1 rows, 1 computed, 0 kept, 0 dropped, 1 quarantined"
    assert FeatureStore.open(tmp_path / "text").clip_ids == ["b"]
    assert tables.read_rows(tmp_path / "q.parquet", tables.QUARANTINE)[0]["reason"] == "no_words"
    head = json.loads((tmp_path / "text" / "spec.json").read_text())
    assert head["spec"]["modality"] == "text" and head["spec"]["max_segments"] == 1
