"""The power spectrum, made a few frames at a time, is torch's own short-time transform to the bit."""

import numpy as np
import pytest
import torch

from components.features import spectrum
from components.features.spectrum import empty_power, log_mel, mel_filters, one_thread, power_spectrum


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("window", "hop"), [(1024, 256), (4096, 1024), (400, 160)])
@pytest.mark.parametrize("samples", [1, 500, 16_000, 16_000 * 9 + 7])
@pytest.mark.parametrize("thin_products", [True, False])
def test_power_is_the_squared_short_time_transform(
    dtype: type, window: int, hop: int, samples: int, thin_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectrum, "_thin_products", lambda: thin_products)
    sound = np.random.default_rng(samples).standard_normal(samples).astype(dtype)
    hann = torch.hann_window(window, dtype=torch.from_numpy(sound).dtype)
    with one_thread():
        whole = torch.stft(torch.from_numpy(sound), window, hop, window=hann, pad_mode="constant", return_complex=True)
        power = power_spectrum(sound, window, hop)
    assert power.dtype == hann.dtype
    assert torch.equal(power, whole.real.square() + whole.imag.square())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("window", "bands"), [(1024, 40), (4096, 128), (256, 64), (1024, 1)])
@pytest.mark.parametrize("samples", [1, 500, 16_000 * 9 + 7])
def test_log_mel_is_that_of_the_whole_product(dtype: type, window: int, bands: int, samples: int) -> None:
    sound = np.random.default_rng(samples).standard_normal(samples).astype(dtype)
    power = empty_power(sound, window, 256)
    with one_thread():
        mel_db = log_mel(sound, 16_000, window, 256, bands)
        assert np.array_equal(mel_db, log_mel(sound, 16_000, window, 256, bands, power))
        assert np.array_equal(power.T, power_spectrum(sound, window, 256).numpy())
    mel = mel_filters(16_000, window, bands).astype(np.float64) @ power.T.astype(np.float64)
    assert mel_db.dtype == dtype
    np.testing.assert_allclose(mel_db, 10 * np.log10(np.maximum(mel, 1e-10)), atol=3e-5)


@pytest.mark.parametrize("frames", [1, 5, 64, 1000])
def test_how_many_frames_are_made_at_a_time_does_not_show(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.random.default_rng(0).standard_normal(16_000 * 9 + 7).astype(np.float32)
    expected, power = empty_power(sound, 1024, 256), empty_power(sound, 1024, 256)
    with one_thread():
        decibels = log_mel(sound, 16_000, 1024, 256, 40, expected)
        monkeypatch.setattr(spectrum, "_SAMPLES", frames * 1024)
        found = log_mel(sound, 16_000, 1024, 256, 40, power)
    assert power.tobytes() == expected.tobytes()
    # A product's kernel takes frames in groups, and may round the last ones of a block in another way.
    np.testing.assert_allclose(found, decibels, rtol=0, atol=2e-5)
