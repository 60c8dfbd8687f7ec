"""The demo corpus: same seed, same bytes; more clips, same first clips; real media; resumed after a stop."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components import containers, media, tables
from components.code import covered
from components.corpus import demo
from components.corpus.build import build_corpus
from components.corpus.collected import Collected
from components.corpus.params import DemoCorpus
from components.corpus.render import RATE_HZ, clip_frames, clip_sound, render_video
from components.corpus.sentences import artist_name, describe
from components.corpus.synth import VOICES, note
from components.corpus.world import World, draw_clip, read_world, stream
from components.modalities import TAG_GROUPS
from tests.traced import ran

WORLD = Path("components/corpus/world.yaml")
LENGTH_S = 4.0


def section(**changes: object) -> DemoCorpus:
    fields = {"kind": "demo", "source": str(WORLD), "clips": 20, "annotated": 1.0, "clip_s": LENGTH_S}
    return DemoCorpus.model_validate({**fields, "seed": 5, "seed_clips": 20, "workers": 1, **changes})


@pytest.fixture(scope="module")
def world() -> World:
    return read_world(WORLD)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Collected]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, build_corpus(section(), WORLD, folder / "media", folder / "seed")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_seed_gives_the_same_samples_and_frames(world: World) -> None:
    clip = draw_clip(world, 5, 3)
    sound = clip_sound(world, 5, 3, clip.music, LENGTH_S)
    frames = clip_frames(world, 5, 3, clip.video, LENGTH_S)
    assert sound.dtype == np.float32 and sound.shape == (int(LENGTH_S * RATE_HZ),)
    assert frames.dtype == np.uint8 and frames.shape == (40, 120, 160, 3)
    note.cache_clear()
    assert np.array_equal(sound, clip_sound(world, 5, 3, clip.music, LENGTH_S))
    assert np.array_equal(frames, clip_frames(world, 5, 3, clip.video, LENGTH_S))


def test_loudness_is_level_and_never_clips(world: World) -> None:
    for index in range(8):
        sound = clip_sound(world, 5, index, draw_clip(world, 5, index).music, LENGTH_S)
        assert np.abs(sound).max() <= 1
        assert 0.08 < np.sqrt(np.mean(sound**2)) < 0.13


def test_every_instrument_plays_the_pitch_it_is_asked_for() -> None:
    for name, voice in VOICES.items():
        wave = note(name, voice.octave + 9)
        assert np.isfinite(wave).all()
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 17))
        asked = 440 * 2 ** ((voice.octave + 9 - 69) / 12)
        # A harmonic of the pitch (or its lower octave) stands out at 1/2, 1, 2, ... times what was asked.
        peak = np.argmax(spectrum) * RATE_HZ / (1 << 17)
        times = peak / asked * 2
        assert abs(times - round(times)) < 0.05 * times, (name, peak, asked)


def test_light_brightens_the_sound_and_the_picture(world: World) -> None:
    clip = draw_clip(world, 5, 2)

    def centre(light: float) -> tuple[float, float]:
        music, video = (replace(side, nuance=(light, 0.0)) for side in (clip.music, clip.video))
        power = np.abs(np.fft.rfft(clip_sound(world, 5, 2, music, LENGTH_S))) ** 2
        sound = float((power * np.arange(len(power))).sum() / power.sum())
        return sound, float(clip_frames(world, 5, 2, video, LENGTH_S).mean())

    dull, bright = centre(-1.5), centre(1.5)
    assert bright[0] > 1.2 * dull[0] and bright[1] > 1.2 * dull[1]


def test_faster_music_has_faster_pictures(world: World) -> None:
    clip = draw_clip(world, 5, 2)

    def motion(tempo: float) -> float:
        frames = clip_frames(world, 5, 2, replace(clip.video, tempo=tempo), LENGTH_S).astype(float)
        return float(np.abs(np.diff(frames, axis=0)).mean() / frames.mean())

    assert motion(2.0) > 1.5 * motion(0.0) > 2.0 * motion(-2.0)


def test_rendered_clip_decodes(rendered: tuple[Path, Collected]) -> None:
    folder, _corpus = rendered
    path = folder / "media" / "demo-00001.mp4"
    found = containers.probe(path)
    assert (found.video_codec, found.audio_codec, found.width, found.height) == ("h264", "aac", 160, 120)
    assert found.duration_s == pytest.approx(LENGTH_S, abs=0.1)
    frames = media.frames_at(path, [0.0, 2.0], (160, 120))
    clip = draw_clip(read_world(WORLD), 5, 1)
    drawn = clip_frames(read_world(WORLD), 5, 1, clip.video, LENGTH_S)
    assert np.abs(frames[1].astype(float) - drawn[20]).mean() < 6
    sound = media.mono(path, RATE_HZ)
    played = clip_sound(read_world(WORLD), 5, 1, clip.music, LENGTH_S)
    count = min(len(sound), len(played))
    assert np.corrcoef(sound[:count], played[:count])[0, 1] > 0.9


def test_seed_library_is_sound_alone_with_tags_in_every_group(rendered: tuple[Path, Collected]) -> None:
    folder, corpus = rendered
    rows = list(csv.DictReader(io.StringIO(corpus.seed_tags.decode())))
    assert {row["group"] for row in rows} == set(TAG_GROUPS)
    by_path = {row["path"] for row in rows}
    assert len(by_path) == 20 and len(rows) == 20 * 5
    probe = containers.probe(folder / min(by_path))
    assert probe.video_codec is None and probe.audio_codec == "aac"


def test_tables_agree_and_have_their_columns(rendered: tuple[Path, Collected], tmp_path: Path) -> None:
    _, corpus = rendered
    paths = [tmp_path / name for name in ("inventory.parquet", "a.csv", "s.csv", "truth.parquet", "refused.parquet")]
    corpus.write(*paths)
    inventory = tables.read_rows(paths[0], tables.INVENTORY)
    told = list(csv.DictReader(paths[1].read_text(encoding="utf-8").splitlines()))
    truth = pq.ParquetFile(paths[3]).read()
    ids = [row["video_id"] for row in inventory]
    assert ids == [row["video_id"] for row in told] == truth.column("video_id").to_pylist()
    assert list(told[0]) == ["video_id", "start", "end", "text"]
    assert all(row["licence"] == "CC0-1.0" and Path(row["uri"]).is_file() for row in inventory)
    world = json.loads(truth.schema.metadata[b"world"])["factors"]
    assert world["instruments"] == {
        **world["instruments"], "type": "subset", "cardinality": 12, "size": 3, "text_epsilon": 0.33,
    }  # fmt: skip
    assert tables.read_rows(paths[4], tables.QUARANTINE) == []


def test_a_second_run_renders_nothing_and_mends_what_is_broken(
    rendered: tuple[Path, Collected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(rendered[0], tmp_path, dirs_exist_ok=True)

    def build() -> None:
        build_corpus(section(), WORLD, tmp_path / "media", tmp_path / "seed")

    before = contents(tmp_path / "media"), contents(tmp_path / "seed")
    drawn: list[int] = []
    render = demo.render_video
    monkeypatch.setattr(demo, "render_video", lambda *a: (drawn.append(a[2]), render(*a)))
    build()
    assert drawn == []
    broken = tmp_path / "media" / "demo-00004.mp4"
    broken.write_bytes(broken.read_bytes()[:5000])
    (tmp_path / "media" / "demo-00009.mp4").unlink()
    (tmp_path / "media" / "demo-00077.mp4").write_bytes(b"of an earlier run")
    build()
    assert sorted(drawn) == [4, 9]
    assert (contents(tmp_path / "media"), contents(tmp_path / "seed")) == before


def test_more_clips_leave_the_first_ones_as_they_are(rendered: tuple[Path, Collected], tmp_path: Path) -> None:
    folder, corpus = rendered
    shutil.copytree(folder / "seed", tmp_path / "seed")
    more = build_corpus(section(clips=24, workers=2), WORLD, tmp_path / "media", tmp_path / "seed")
    few, many = contents(folder / "media"), contents(tmp_path / "media")
    del few["files.json"]
    assert {name: many[name] for name in few} == few and len(many) == 25
    assert more.annotations.startswith(corpus.annotations)
    assert more.truth.slice(0, 20).equals(corpus.truth)
    assert [row["fingerprint"] for row in more.inventory[:20]] == [row["fingerprint"] for row in corpus.inventory]


def test_new_words_render_nothing_anew(tmp_path: Path, rendered: tuple[Path, Collected]) -> None:
    world = WORLD.read_text().replace("singer-songwriter", "troubadour").replace("plain_word: 0.6", "plain_word: 0.1")
    path = tmp_path / "world.yaml"
    path.write_text(world)
    folder, corpus = rendered
    other = build_corpus(section(), path, folder / "media", folder / "seed")
    assert [row["fingerprint"] for row in other.inventory] == [row["fingerprint"] for row in corpus.inventory]
    assert other.annotations != corpus.annotations


def test_descriptions_name_what_is_told_in_many_words(world: World) -> None:
    clip = draw_clip(world, 5, 1)
    texts = {describe(world, clip.text, stream(5, number, 6)) for number in range(200)}
    words = list(world.genres.values())[clip.text.genre].words
    assert len(texts) > 150
    assert all(any(word in text.lower() for word in words) for text in texts)
    assert all(any(word in text.lower() for text in texts) for word in words)
    assert not any(" a a" in text.lower() or "  " in text or ".." in text for text in texts)


def test_artists_have_names_of_their_own() -> None:
    names = [artist_name(7, number) for number in range(1, 1501)]
    assert len(set(names)) == len(names)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from components.corpus import render

    def full(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(render, "_encode", full)
    with pytest.raises(OSError, match="No space left"):
        build_corpus(section(), WORLD, tmp_path / "media", tmp_path / "seed")
    assert list((tmp_path / "media").iterdir()) == []


def test_all_that_renders_is_covered(world: World, tmp_path: Path) -> None:
    listed = covered(render_video)
    used = ran(lambda: render_video(world, 5, 3, LENGTH_S, tmp_path / "a.mp4"), listed)
    assert {"components.corpus.music:render_music", "components.corpus.pictures:render_frames"} <= used
    assert used <= set(listed)
