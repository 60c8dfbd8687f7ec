"""What models are given: sound as the library's extractors make it, pictures as its processors do."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.features.hf.frames import FrameReader, upright_size
from components.features.hf.mel import AstSound, ClapSound, ast_samples
from components.features.hf.music import Sounds
from components.features.hf.pixels import Pixels, read_pixels
from components.features.hf.video import Pictures
from components.features.params import HfParams
from components.features.source import Source
from tests.features import look_alikes
from tests.features.look_alikes import PICTURES, save_json, section

CPU = torch.device("cpu")


def sounds(samples: int, rate_hz: int) -> np.ndarray:
    """Noise, a loud tone, a quiet one, a click and silence: what bands hear and what they do not."""
    time_s = np.arange(samples) / rate_hz
    click = np.zeros(samples)
    click[samples // 3] = 1.0
    noise = np.random.default_rng(0).uniform(-1, 1, samples)
    tones = [np.sin(2 * np.pi * 440 * time_s), 1e-3 * np.sin(2 * np.pi * 3000 * time_s)]
    return np.stack([noise, *tones, click, np.zeros(samples)]).astype(np.float32)


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("samples", [48_000, 20_001, 7_000])
def test_clap_hears_what_the_librarys_extractor_makes(truncation: str, padding: str, samples: int) -> None:
    from transformers import ClapFeatureExtractor

    extractor = ClapFeatureExtractor(max_length_s=1, truncation=truncation, padding=padding)
    batch = sounds(samples, 48_000)
    theirs = extractor(list(batch), sampling_rate=48_000, return_tensors="pt")["input_features"].float()
    mine = ClapSound(extractor, CPU)(torch.from_numpy(batch))
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() < 2e-3  # dB; theirs round the spectrum to float32


@pytest.mark.parametrize("samples", [16_000, 8_123])
@pytest.mark.parametrize("normal", [True, False])
def test_ast_hears_what_the_librarys_extractor_makes(samples: int, normal: bool) -> None:
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(max_length=98, num_mel_bins=64, do_normalize=normal)
    batch = sounds(samples, 16_000)
    theirs = extractor(list(batch), sampling_rate=16_000, return_tensors="pt")["input_values"]
    mine = AstSound(extractor, CPU)(torch.from_numpy(batch))
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() < 1e-4


def test_ast_hears_a_sound_of_its_whole_length_and_no_more() -> None:
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(max_length=98, num_mel_bins=32)
    longest = ast_samples(extractor)
    silence = torch.zeros(1, longest + 1)
    assert AstSound(extractor, CPU)(silence[:, :-1]).shape == (1, 98, 32)
    assert silence.unfold(1, 400, 160).shape[1] == 99, "one sample more is a window too many"


@pytest.mark.parametrize("model", ["wave", "pe"])
def test_waves_are_prepared_as_the_librarys_extractors_do(tmp_path: Path, model: str) -> None:
    import transformers

    folder = look_alikes.wave(tmp_path) if model == "wave" else look_alikes.perception(tmp_path, "audio")
    encoder: Any = Sounds.__new__(Sounds)
    encoder._extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    batch = sounds(16_000 + 5, 16_000)
    theirs = encoder._extractor(list(batch), sampling_rate=16_000, return_tensors="pt")["input_values"]
    mine = (encoder._normal if model == "wave" else encoder._whole_hops)(torch.from_numpy(batch))
    np.testing.assert_allclose(mine, theirs.reshape(mine.shape), atol=2e-5)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture without sharp edges, where all ways to scale agree."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(3 * x / width), np.cos(4 * y / height), np.sin(2 * (x / width + y / height))]
    return (127 + 120 * np.stack(planes, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (100, 100)])
@pytest.mark.parametrize("model", ["clip", "siglip", "siglip2"])
def test_pictures_are_prepared_as_the_librarys_processors_do(
    write_media: Any, tmp_path: Path, model: str, height: int, width: int
) -> None:
    import transformers

    said: dict[str, Any] = PICTURES
    if model == "clip":
        said = said | {"size": {"shortest_edge": 48}, "crop_size": {"height": 32, "width": 32}}
        processor: Any = transformers.CLIPImageProcessorPil(**said)
    elif model == "siglip":
        said = said | {"size": {"height": 32, "width": 32}}
        processor = transformers.SiglipImageProcessorPil(**said)
    else:
        said = said | {"patch_size": 8, "max_num_patches": 20}
        processor = transformers.Siglip2ImageProcessorPil(**said)
    save_json(tmp_path / "preprocessor_config.json", said)
    picture = smooth(height, width)
    path = write_media(f"{model} {height}.mp4", np.repeat(picture[None], 10, axis=0), None)
    pixels = read_pixels(tmp_path)
    frames = FrameReader(1.0, 1, 1, pixels, moving=False)(Source("c", "k", uri=str(path), end_s=1.0))
    theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
    mine = (frames[0] * pixels.scale - np.array(pixels.mean)) / np.array(pixels.deviation)
    if model == "siglip2":
        down, across = frames.shape[1] // 8, frames.shape[2] // 8
        cut = mine.reshape(down, 8, across, 8, 3).swapaxes(1, 2).reshape(down * across, -1)
        assert np.abs(cut - theirs[: down * across].numpy()).mean() < 0.05
        assert not theirs[down * across :].any(), "as many patches"
    else:
        assert mine.shape[:2] == tuple(theirs.shape[1:])
        assert np.abs(mine - theirs.movedim(0, -1).numpy()).mean() < 0.05


def test_a_turned_video_is_upright(write_media: Any) -> None:
    path = write_media("upright.mp4", np.zeros((5, 48, 64, 3), np.uint8), None)
    assert upright_size(path) == (64, 48)


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 4000), st.integers(16, 4000), st.integers(4, 1024))
def test_patches_are_whole_and_not_too_many(width: int, height: int, most: int) -> None:
    pixels = Pixels("patches", 0, 0, 0, 16, most, (0.0,) * 3, (1.0,) * 3, 1.0)
    across, down = pixels.decoded(width, height)
    assert across % 16 == down % 16 == 0 and across >= 16 and down >= 16
    assert (across // 16) * (down // 16) <= most
    if max(width, height) < 4 * min(width, height) and most >= 64:
        assert abs(math.log((across / down) / (width / height))) < 0.5, "the shape is nearly kept"


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 4000), st.integers(16, 4000))
def test_a_crop_is_of_its_size_from_the_middle(width: int, height: int) -> None:
    pixels = Pixels("crop", 32, 32, 36, 0, 0, (0.0,) * 3, (1.0,) * 3, 1.0)
    across, down = pixels.decoded(width, height)
    assert min(across, down) == 36
    rows, columns = pixels.kept(across, down)
    assert rows.stop - rows.start == columns.stop - columns.start == 32
    assert abs(rows.start - (down - rows.stop)) <= 1 and abs(columns.start - (across - columns.stop)) <= 1


@pytest.mark.parametrize("frames_per_s", [1.0, 3.0])
def test_frames_are_those_on_screen_in_the_middle_of_each_part(write_media: Any, frames_per_s: float) -> None:
    frames = np.repeat(np.arange(20, dtype=np.uint8)[:, None, None, None] * 10, 48 * 64 * 3, axis=1)
    path = write_media(f"ramp {frames_per_s}.mp4", frames.reshape(20, 48, 64, 3), None)
    pixels = Pixels("stretch", 8, 8, 0, 0, 0, (0.0,) * 3, (1.0,) * 3, 1.0)
    count = int(frames_per_s)
    shown = FrameReader(1.0, 4, count, pixels, moving=True)(Source("c", "k", uri=str(path), end_s=2.0))
    assert shown.shape == (2, count, 8, 8, 3)
    times = np.array([0.5, 1.5]) if count == 1 else np.array([1, 3, 5, 7, 9, 11]) / 6
    expected = np.floor(times * 10 + 1e-6) * 10
    np.testing.assert_allclose(shown.mean(axis=(2, 3, 4)).ravel(), expected, atol=4)


def test_a_segments_features_are_the_mean_of_its_frames(tmp_path: Path) -> None:
    params: HfParams = section(video__model=look_alikes.clip(tmp_path))
    import transformers

    encoder = Pictures(params, tmp_path, transformers.AutoConfig.from_pretrained(tmp_path), "clip")
    answers = np.arange(4 * 12, dtype=np.float32).reshape(4, 12)
    rows = encoder.rows(answers, np.zeros((4, 32, 32, 3), np.uint8))
    np.testing.assert_array_equal(rows, [answers[:2].mean(axis=0), answers[2:].mean(axis=0)])
