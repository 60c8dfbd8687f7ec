"""The part of the study on music videos, on a tiny look-alike of the data set in which video and music share factors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.store import FeatureStore
from research.music_video_cca import cca_scores
from research.music_video_features import artist_folds, linked_artists, read_tracks
from research.music_video_report import ONE, Query, VideoReport, report
from research.music_video_windows import (
    clip_id,
    middle,
    pooled_windows,
    reduce_clip,
    shuffled,
    window_rows,
    write_features,
)
from research.music_videos import VideoSettings, music_videos, read_settings

ROOT = Path(__file__).parents[2]
FEATURES = ROOT.parent / "shared/data/muvi_sync"
CHORDS = ["A:min", "F", "N", "G:7", "C#:maj7"]


def write_look_alike(folder: Path, tracks: int = 60, artists: int = 20, dims: int = 12) -> None:
    """Write the four files; a track of number t has 4 + t % 5 segments, and three factors on both sides."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    look = rng.normal(size=(3, dims))
    lines, clip, seconds, chord = (
        ["id,youtube_id,title,artist,split,key,n_seconds,offset_per_second,offset_10s,n_10s"],
        [],
        [],
        [],
    )
    at_second = at_clip = 0
    for t in range(tracks):
        n, spare, factor = 4 + t % 5, t % 10, rng.normal(size=3)
        length = 10 * n + spare
        key = "A minor" if factor[2] > 0 else "C major"
        lines.append(
            f'{t:03d},y{t},"A song, of {t}",artist {t % artists},train,{key},{length},{at_second},{at_clip},{n}'
        )
        clip.append(5.0 + factor @ look + 0.2 * rng.normal(size=(n, dims)))
        noise = rng.random((length, 10))
        noise[:, 0] = np.exp(0.5 * factor[0] - 2) * (1 + 0.1 * noise[:, 0])
        noise[:, 1] = np.round(np.exp(0.5 * factor[1] + 2) * (1 + 0.1 * noise[:, 1]))
        noise[:, 2] = np.exp(factor[0]) * (1 + 0.1 * noise[:, 2])
        seconds.append(noise)
        chord.append(rng.integers(0, len(CHORDS), length))
        at_second, at_clip = at_second + length, at_clip + n
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = ["loudness", "note_density", "motion", "scene_offset", *(f"emo_{at}" for at in range(6))]
    (folder / "columns.json").write_text(json.dumps({"feats_columns": columns, "chord_vocab": CHORDS}))
    np.save(folder / "clip_l14p_mean10s_f16.npy", np.concatenate(clip).astype(np.float16))
    np.savez(folder / "per_second.npz", feats=np.concatenate(seconds).astype(np.float32), chord=np.concatenate(chord).astype(np.int16))  # fmt: skip


def small(**changes: Any) -> VideoSettings:
    """The study's settings, made small enough for a test."""
    tree = read_settings().model_dump() | {
        "window_segments": 2, "folds": 3, "clip_dims": 6, "seeds": (1,), "shuffles": 1, "processes": 1, "resamples": 50,
    }  # fmt: skip
    tree["encoder"] |= {"width": 16, "heads": 2, "feedforward": 16, "embedding_dims": 8, "layers": 0}
    tree["training"] |= {"steps": 24, "warmup_steps": 3, "batch": 64, "learning_rate": 1e-2, "validate_every": 24}
    return VideoSettings.model_validate(tree | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("muvi")
    write_look_alike(path)
    return path


@pytest.fixture(scope="module")
def measured(folder: Path) -> VideoReport:
    return music_videos(folder, small())


def test_segments_are_the_right_seconds_of_the_right_side(folder: Path) -> None:
    tracks = read_tracks(folder)
    assert [(track.id, len(track)) for track in tracks[:6]] == [(f"00{t}", 4 + t % 5) for t in range(6)]
    with np.load(folder / "per_second.npz") as file:
        seconds, chord = file["feats"].astype(np.float64), file["chord"]
    start = 40 + 51 + 10  # track 2, second segment: 40 s and 51 s of tracks come before
    here = slice(start, start + 10)
    second = tracks[2]
    assert second.music[1, 0] == pytest.approx(seconds[here, 0].mean())
    assert second.screen[1, 0] == pytest.approx(np.log1p(seconds[here, 2]).mean())
    # Behind 11 columns of loudness and density: roots C to B, then types; chord 1 is F, chord 3 is G:7.
    assert second.music[1, 11 + 5] == pytest.approx(np.mean(chord[here] == 1))
    assert second.music[1, 11 + 7] == pytest.approx(np.mean(chord[here] == 3))
    assert second.music[1, 11 : 11 + 12].sum() == pytest.approx(np.mean(chord[here] != 2))
    changes, kinds, minor = second.music[1, -3:]
    assert changes == pytest.approx(np.mean(np.diff(chord[here]) != 0))
    assert kinds == pytest.approx(len(set(chord[here].tolist())) / 10)
    assert minor in (0.0, 1.0)
    np.testing.assert_allclose(np.linalg.norm(second.clip, axis=1), 20.0)


def test_no_artist_is_in_two_folds_also_through_a_song_made_together() -> None:
    names = ["a", "b, c", "c & d", "e", "d ft. f", "g x h", "maxx", "a"]
    linked = linked_artists(names)
    assert linked[1] == linked[2] == linked[4]
    assert linked == ["a", "b", "b", "e", "b", "g", "maxx", "a"], "a name is the first of all who are linked"
    assert len(set(linked)) == 5
    assert linked[0] == linked[7]
    many = [f"artist {at % 17}" for at in range(100)]
    fold = artist_folds(many, 5, seed=0)
    for name in set(many):
        assert len({int(f) for f, artist in zip(fold, many, strict=True) if artist == name}) == 1
    assert np.bincount(fold).min() >= 17
    np.testing.assert_array_equal(fold, artist_folds(many, 5, seed=0))
    with pytest.raises(ValueError, match="2 artists cannot fill 5 folds"):
        artist_folds(["a", "b"], 5, 0)


def test_every_window_has_one_length_and_only_training_tracks_have_several(folder: Path, tmp_path: Path) -> None:
    tracks = read_tracks(folder)[:6]
    rows = list(window_rows(tracks, "train", 3))
    assert len(rows) == sum(len(track) - 2 for track in tracks)
    assert {row["end_s"] - row["start_s"] for row in rows} == {30.0}
    tested = list(window_rows(tracks, "test", 3))
    assert [row["clip_id"] for row in tested] == [clip_id(track, middle(track, 3)) for track in tracks]
    features = write_features(tmp_path / "true", tracks, {}, reduce_clip(tracks, 6, 0), 3)
    ids = [row["clip_id"] for row in rows]
    assert features.music.clip_ids == features.video.clip_ids == ids
    for store in (features.video, features.music):
        assert set(store.segments.tolist()) == {3}, "length must tell nothing"
    heard = FeatureStore.open(tmp_path / "true/music").gather([clip_id(tracks[4], 2)])[0][0]
    np.testing.assert_allclose(heard, tracks[4].music[2:5], rtol=2e-3, atol=1e-3)


def test_clip_keeps_its_spread_when_it_is_reduced(folder: Path) -> None:
    tracks = read_tracks(folder)
    mean, axes = reduce_clip(tracks, 6, 0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-9)
    rows = np.concatenate([track.clip for track in tracks]) - mean
    largest = np.linalg.eigvalsh(rows.T @ rows)[-6:]
    np.testing.assert_allclose(np.square(rows @ axes).sum(), largest.sum(), rtol=1e-6)


def test_the_control_pairs_every_track_with_another(folder: Path, tmp_path: Path) -> None:
    tracks = read_tracks(folder)[:9]
    partner = shuffled(tracks, seed=0)
    assert sorted(other.id for other in partner.values()) == [track.id for track in tracks]
    assert all(other.id != track for track, other in partner.items())
    features = write_features(tmp_path / "control", tracks, partner, reduce_clip(tracks, 6, 0), 3)
    heard = features.music.gather([clip_id(tracks[0], 1)])[0][0]
    other = partner[tracks[0].id]
    start = 1 % (len(other) - 2)
    np.testing.assert_allclose(heard, other.music[start : start + 3], rtol=2e-3, atol=1e-3)


def test_cca_is_fitted_on_windows_of_other_tracks(folder: Path) -> None:
    tracks = read_tracks(folder)
    seen, heard = pooled_windows(tracks[:3], 3, 1)
    assert len(seen) == len(heard) == sum(len(track) - 2 for track in tracks[:3])
    scores = cca_scores(tracks[20:], [tracks[20:30], tracks[30:40]], tracks[:20], 3)
    assert scores.shape == (20, 20)
    assert (np.diag(scores)[:, None] > scores).mean() > 0.6


def test_what_is_shared_is_found_and_shuffled_pairs_give_chance(measured: VideoReport) -> None:
    assert len(measured.queries) == sum(measured.candidates) == 60
    assert measured.chance.median_share == pytest.approx(0.525, abs=0.01)
    for name in ("towers", "CCA"):
        assert measured.systems[name].median_share.value < 0.25, name
        control = measured.systems[f"{name}, shuffled pairs"].median_share
        assert control.low - 0.1 <= measured.chance.median_share <= control.high + 0.1, name
    assert len({(query.artist, query.fold) for query in measured.queries}) == measured.artists == 20
    assert VideoReport.model_validate_json(json.dumps(measured.model_dump(mode="json"))) == measured
    assert any(line.startswith("| towers minus CCA, paired |") for line in measured.lines())


def test_the_report_by_hand() -> None:
    # Four candidates a fold. Towers: ranks 1, 2, 4, 1; CCA: 2, 2, 4, 3.
    ranks = [(1, 2), (2, 2), (4, 4), (1, 3)]
    queries = [
        Query(str(at), f"artist {at}", at // 2, 4, {"towers": [one], "CCA": [two], ONE: [one, two]})
        for at, (one, two) in enumerate(ranks)
    ]
    made = report(queries, 100, 0.9)
    assert made.systems["towers"].median_share.value == pytest.approx(1.5 / 4)
    assert made.systems["CCA"].median_share.value == pytest.approx(2.5 / 4)
    assert made.towers_minus_cca.median_share.value == pytest.approx(-1 / 4)
    assert made.systems[ONE].median_share.value == pytest.approx(2 / 4)  # of 1, 1, 2, 2, 2, 3, 4, 4
    assert made.systems["towers"].recall_at_10.value == 1.0
    assert made.runs == {"towers": 1, "CCA": 1, ONE: 2}


def test_a_folder_that_is_not_the_data_set_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"index\.csv: no such file; give the folder of the MuVi-Sync features"):
        read_tracks(tmp_path / "absent")
    write_look_alike(tmp_path / "cut")
    np.save(tmp_path / "cut/clip_l14p_mean10s_f16.npy", np.zeros((3, 12), np.float16))
    with pytest.raises(ValueError, match=r"cut: not the MuVi-Sync features .*track 000 lies beyond"):
        read_tracks(tmp_path / "cut")
    command = [sys.executable, "-m", "research.music_videos", str(tmp_path / "absent")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not FEATURES.is_dir(), reason=f"needs the MuVi-Sync features in {FEATURES}")
def test_the_real_features_can_be_read() -> None:
    tracks = read_tracks(FEATURES)
    assert len(tracks) == 657
    assert all(np.isfinite(track.music).all() and np.isfinite(track.clip).all() for track in tracks)
    assert min(len(track) for track in tracks) >= read_settings().window_segments
    counts = np.bincount(artist_folds([track.artist for track in tracks], 5, 0))
    assert counts.max() - counts.min() <= 1
