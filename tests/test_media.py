"""Decoding: the right frame, the right sample, and nothing but the file itself."""

import os
from pathlib import Path

import numpy as np
import pytest

from components.containers import MediaError, probe
from components.media import frames_at, mono
from tests.ingest.media_look_alike import blobs, notes, write_clip, write_media

NAMES = [
    "-i.mp4",
    "two words.mp4",
    "new\nline.mp4",
    "Grüße \u97f3\u697d \U0001f3b5.mp4",
    "http:example.org.mp4",
    "concat:a.mp4|b.mp4",
    "pipe:0",
    "file:x.mp4",
    "data:video,mp4;base64",
    "%d.mp4",
    "a*?[b].mp4",
]


def greys(levels: list[int]) -> np.ndarray:
    """Frames (T, 32, 32, 3), each of one grey."""
    return np.stack([np.full((32, 32, 3), level, np.uint8) for level in levels])


def shown(path: Path, times_s: list[float]) -> list[int]:
    """The grey of the frame at each time, to the nearest ten."""
    return [round(float(frame.mean()) / 10) * 10 for frame in frames_at(path, times_s, (8, 8))]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames a second, the grey rises by 20 with each."""
    return write_media(tmp_path_factory.mktemp("m") / "steps.mp4", greys(list(range(0, 200, 20))), None, crf=5)


def test_probe_tells_what_the_header_says(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", blobs(1, 20, (64, 48)), np.stack([notes(1, 2, 44100)] * 2), rate_hz=44100)
    found = probe(path)
    assert (found.container, found.video_codec, found.audio_codec) == ("mp4", "h264", "aac")
    assert (found.width, found.height, found.fps) == (64, 48, 10.0)
    assert (found.sample_rate_hz, found.channels) == (44100, 2)
    assert found.duration_s == pytest.approx(2.0, abs=0.1)


def test_a_frame_is_the_one_on_screen_at_its_time(steps: Path) -> None:
    assert shown(steps, [0.0, 0.05, 0.1, 0.19, 0.55, 0.9]) == [0, 0, 20, 20, 100, 180]


def test_times_outside_the_picture_give_its_first_and_last_frame(steps: Path) -> None:
    assert shown(steps, [-1.0, 0.3, 0.3, 99.0]) == [0, 60, 60, 180]
    assert frames_at(steps, [], (6, 4)).shape == (0, 4, 6, 3)


def test_times_must_ascend(steps: Path) -> None:
    with pytest.raises(ValueError, match="ascending"):
        frames_at(steps, [1.0, 0.0], (8, 8))


def test_a_variable_frame_rate_holds_each_frame_until_the_next(tmp_path: Path) -> None:
    path = write_media(tmp_path / "v.mkv", greys([0, 100, 200]), None, times=[0, 2, 9], container="matroska", crf=5)
    assert shown(path, [0.0, 0.15, 0.25, 0.85, 0.95]) == [0, 0, 100, 100, 200]


def test_odd_sizes_are_decoded(tmp_path: Path) -> None:
    path = write_media(tmp_path / "odd.mp4", blobs(1, 5, (63, 47)), None, pixels="yuv444p")
    assert (probe(path).width, probe(path).height) == (63, 47)
    assert frames_at(path, [0.0, 0.2], (31, 17)).shape == (2, 17, 31, 3)


@pytest.mark.parametrize(("angle", "corner"), [(90, (0, 0)), (180, (-1, 0)), (-90, (-1, -1))])
def test_a_turned_picture_is_shown_upright(tmp_path: Path, angle: int, corner: tuple[int, int]) -> None:
    picture = np.zeros((1, 32, 64, 3), np.uint8)
    picture[:, :16, 32:] = 255  # stored: white at the top right
    path = write_media(tmp_path / "turned.mp4", np.repeat(picture, 3, 0), None, rotation=angle)
    image = frames_at(path, [0.0], (40, 60))[0].mean(-1)
    assert image[corner] > 200 and image.mean() == pytest.approx(255 / 4, abs=12)


def test_cover_art_is_not_video(tmp_path: Path) -> None:
    path = write_media(tmp_path / "c.m4a", None, notes(1, 2, 16000), cover=blobs(1, 1, (32, 32))[0])
    assert probe(path).video_codec is None and probe(path).audio_codec == "aac"
    with pytest.raises(MediaError) as error:
        frames_at(path, [0.0], (8, 8))
    assert error.value.reason == "no_video"


@pytest.mark.parametrize(
    ("codec", "tolerance"), [("pcm_u8", 0.02), ("pcm_s16le", 1e-3), ("pcm_f32le", 1e-6), ("pcm_f64le", 1e-6)]
)
def test_mono_is_the_average_of_the_channels_in_any_sample_format(tmp_path: Path, codec: str, tolerance: float) -> None:
    sound = np.stack([np.full(8000, 0.5), np.full(8000, -0.25)]).astype(np.float32)
    path = write_media(tmp_path / "a.wav", None, sound, rate_hz=8000, container="wav", audio=codec)
    result = mono(path, 8000)
    assert result.dtype == np.float32 and result.shape == (8000,)
    assert np.abs(result - 0.125).max() <= tolerance


def test_full_scale_on_both_channels_does_not_clip(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050).astype(np.float32)
    path = write_media(
        tmp_path / "a.wav", None, np.stack([tone, tone]), rate_hz=22050, container="wav", audio="pcm_f32le"
    )
    assert np.abs(mono(path, 22050) - tone).max() < 1e-5


def test_resampling_keeps_pitch_level_and_length(tmp_path: Path) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(88200) / 44100)).astype(np.float32)
    path = write_media(tmp_path / "a.wav", None, tone, rate_hz=44100, container="wav", audio="pcm_s16le")
    result = mono(path, 16000)
    assert abs(len(result) - 32000) <= 1
    assert np.abs(np.fft.rfft(result[:16000])).argmax() == 1000  # one-hertz bins
    assert np.sqrt(np.mean(result[1000:-1000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


def test_sound_and_picture_share_a_clock(tmp_path: Path) -> None:
    sound = np.zeros(16000 * 9, np.float32)
    sound[16000 * 7 : 16000 * 7 + 400] = 0.8  # a knock at 7 s
    frames = greys([0] * 70 + [240] * 20)  # a flash at 7 s
    path = write_media(tmp_path / "k.mkv", frames, sound, container="matroska", audio="pcm_s16le")
    assert shown(path, [6.95, 7.05]) == [0, 240]
    for start_s in (0.0, 3.0, 6.5):
        assert np.argmax(mono(path, 16000, start_s, 8.0) > 0.4) == pytest.approx((7 - start_s) * 16000, abs=32)


def test_a_part_is_the_same_as_that_part_of_the_whole(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", 3, seconds=14)
    times = [0.0, 4.0, 7.5, 9.0, 13.0]
    whole = frames_at(path, times, (16, 16))
    assert (frames_at(path, times[2:], (16, 16)) == whole[2:]).all()
    sound, part = mono(path, 16000), mono(path, 16000, 8.0, 11.0)
    assert part.shape == (48000,)
    assert np.corrcoef(part, sound[8 * 16000 : 11 * 16000])[0, 1] > 0.99


def test_sound_that_ends_early_gives_fewer_samples(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", None, notes(1, 1, 8000), rate_hz=8000, container="wav", audio="pcm_s16le")
    assert len(mono(path, 8000, 0.5, 3.0)) == 4000 and len(mono(path, 8000, 2.0, 3.0)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / name, 1, seconds=1)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        assert probe(path).video_codec == "h264"
        assert frames_at(path, [0.5], (8, 8)).shape == (1, 8, 8, 3) and len(mono(path, 8000)) > 7000


def test_a_name_like_an_address_that_is_no_file_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http://127.0.0.1:9/a.mp4", "concat:a.mp4|b.mp4", "pipe:0", "lavfi:testsrc", ""):
        with pytest.raises(MediaError) as error:
            probe(Path(name))
        assert error.value.reason == "unreadable"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "a sentence, not a video\n",
    ],
)
def test_a_playlist_cannot_make_the_decoder_read_another_file(tmp_path: Path, text: str) -> None:
    secret = write_clip(tmp_path / "secret.mp4", 1, seconds=1)
    lure = tmp_path / "lure.mp4"
    lure.write_text(text.format(path=secret))
    with pytest.raises(MediaError) as error:
        frames_at(lure, [0.0], (8, 8))
    assert error.value.reason == "not_media"


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path, tmp_path / "absent.mp4", Path("/dev/zero"), Path("nul\0.mp4")):
        with pytest.raises(MediaError) as error:
            probe(path)
        assert error.value.reason == "unreadable"


def test_each_way_to_have_nothing_has_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    mute = write_media(tmp_path / "mute.mp4", blobs(1, 10, (32, 32)), None)
    blind = write_media(
        tmp_path / "blind.wav", None, notes(1, 1, 8000), rate_hz=8000, container="wav", audio="pcm_s16le"
    )
    for path, reason in ((tmp_path / "empty.mp4", "empty_file"), (mute, "no_audio"), (blind, "no_video")):
        with pytest.raises(MediaError) as error:
            frames_at(path, [0.0], (8, 8))
            mono(path, 8000)
        assert error.value.reason == reason


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", 1, seconds=4, container="matroska")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert frames_at(cut, [0.0, 3.9], (8, 8)).shape == (2, 8, 8, 3)
    assert 0 < len(mono(cut, 8000)) < 4 * 8000
