"""A whole sound decoded inside the media library is, to the bit, the sound decoded frame by frame."""

from pathlib import Path

import av
import numpy as np
import pytest

from components import media
from components.containers import demuxed, pick_stream, regular_file
from components.media import SoundCollector, mono
from components.sound_graph import resampled_whole
from tests.ingest.media_look_alike import notes, write_media

SECONDS = 21.0  # shorter files are decoded frame by frame


def frame_by_frame(path: Path, rate_hz: int, start_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
    """The sound by PyAV's own loop."""
    collector = SoundCollector(rate_hz, start_s, end_s)
    with av.open(str(path)) as container:
        zero_s = (container.start_time or 0) / 1e6
        for frame in container.decode(audio=0):
            if collector.feed(frame.time - zero_s, frame):
                break
    return collector.finish()


def in_the_graph(path: Path, rate_hz: int) -> np.ndarray | None:
    with regular_file(path) as handle, demuxed(handle) as container:
        stream = pick_stream(container, "audio")
        first = next(container.decode(stream))
        return resampled_whole(handle, container, stream, first, rate_hz)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sound = np.stack([notes(1, SECONDS, 22050), notes(2, SECONDS, 22050)])
    return write_media(tmp_path_factory.mktemp("m") / "long clip:1'.mp4", None, sound, rate_hz=22050)


@pytest.mark.parametrize(
    ("container", "codec", "channels"),
    [
        ("mp4", "aac", 2),
        ("mp4", "aac", 1),
        ("mp3", "libmp3lame", 2),
        ("matroska", "libopus", 2),
        ("flac", "flac", 2),
        ("wav", "pcm_u8", 2),
        ("wav", "pcm_f32le", 2),
    ],
)
@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_the_bits_are_those_of_the_loop(
    tmp_path: Path, container: str, codec: str, channels: int, rate_hz: int
) -> None:
    sound = np.stack([notes(seed, 2, 48000) for seed in range(channels)])
    path = write_media(tmp_path / "a", None, sound, rate_hz=48000, container=container, audio=codec)
    found = in_the_graph(path, rate_hz)
    assert found is not None and found.dtype == np.float32
    np.testing.assert_array_equal(np.clip(found, -1, 1), frame_by_frame(path, rate_hz))


def test_double_precision_is_left_to_the_loop(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", None, notes(1, 1, 8000), rate_hz=8000, container="wav", audio="pcm_f64le")
    assert in_the_graph(path, 8000) is None


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, None), (0.5, None), (0.0, SECONDS), (0.0, 30.0), (0.25, 12.0)])
def test_mono_is_the_same_on_either_way(long: Path, start_s: float, end_s: float | None) -> None:
    np.testing.assert_array_equal(mono(long, 16000, start_s, end_s), frame_by_frame(long, 16000, start_s, end_s))


def test_only_a_long_and_whole_sound_takes_the_graph(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []
    monkeypatch.setattr(media, "resampled_whole", lambda handle, *rest: taken.append(handle))
    short = write_media(tmp_path / "short.mp4", None, notes(1, 2, 22050), rate_hz=22050)
    for path, part in ((short, (0.0, None)), (long, (0.0, 12.0)), (long, (3.0, None))):
        assert len(mono(path, 8000, *part)) and not taken
    assert len(mono(long, 8000)) and len(taken) == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_gives_what_the_loop_gives(long: Path, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(long.read_bytes())
    for at in rng.integers(len(data) // 20, len(data) * 9 // 10, 4**seed):
        data[at] ^= 0x5A
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    by_loop = SoundCollector(16000)
    for time_s, frame in media.decoded(path, "audio", 0.0):
        by_loop.feed(time_s, frame)
    np.testing.assert_array_equal(mono(path, 16000), by_loop.finish())


def test_a_machine_without_numbered_files_decodes_by_the_loop(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        def fileno(self) -> int:
            return 999_999

    found = media.resampled_whole
    monkeypatch.setattr(media, "resampled_whole", lambda handle, *rest: found(Elsewhere(), *rest))
    np.testing.assert_array_equal(mono(long, 16000), frame_by_frame(long, 16000))
