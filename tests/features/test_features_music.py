"""Music features: decibels as librosa's, and numbers that say what was played."""

import numpy as np
import pytest

from components.features.harmony import harmony, semitone_filters
from components.features.music import describe_sound, music_dims
from components.features.params import EmbeddedParams
from components.features.rhythm import onset_statistics, onsets, tempo_grid, tempo_profile
from components.features.spectrum import log_mel, mel_filters, power_spectrum

RATE = 16000


def tone(hz: float, length_s: float = 4.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(length_s * RATE)) / RATE)).astype(np.float32)


def clicks(bpm: float, length_s: float = 8.0) -> np.ndarray:
    sound = np.zeros(int(length_s * RATE), np.float32)
    noise = np.random.default_rng(0).standard_normal(400).astype(np.float32) * np.exp(-np.arange(400) / 80)
    for start in np.arange(0, length_s - 0.1, 60 / bpm):
        sound[int(start * RATE) : int(start * RATE) + 400] += 0.5 * noise
    return sound


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_mel_agrees_with_librosa(dtype: type) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is not installed; it is the peer of this test only")
    rng = np.random.default_rng(1)
    sound = (tone(440) + tone(1234.5) + 0.05 * rng.standard_normal(4 * RATE)).astype(dtype)
    ours = log_mel(sound, RATE, 1024, 256, 40)
    theirs = librosa.power_to_db(
        librosa.feature.melspectrogram(y=sound, sr=RATE, n_fft=1024, hop_length=256, n_mels=40, pad_mode="constant"),
        top_db=None,
    )
    assert np.abs(ours - theirs).max() < 1e-4


def test_mel_filters_have_equal_area_and_follow_each_other() -> None:
    filters = mel_filters(RATE, 4096, 20)
    area = filters.sum(axis=1) * RATE / 4096
    np.testing.assert_allclose(area, 1.0, atol=0.03)
    assert (np.diff(filters.argmax(axis=1)) > 0).all()


def test_a_full_scale_tone_is_the_loudest_band_and_silence_is_the_floor() -> None:
    mel_db = log_mel(tone(1000), RATE, 1024, 256, 40)[:, 20:-20]
    centres = mel_filters(RATE, 1024, 40).argmax(axis=1) * RATE / 1024
    assert abs(centres[mel_db.mean(axis=1).argmax()] - 1000) < 120
    silent = log_mel(np.zeros(RATE, np.float32), RATE, 1024, 256, 40)
    assert (silent == -100.0).all()


@pytest.mark.parametrize(("hz", "pitch_class"), [(261.63, 0), (440.0, 9), (739.99, 6)])
def test_chroma_names_the_pitch_class(hz: float, pitch_class: int) -> None:
    power = power_spectrum(tone(hz), 4096, 1024)
    masks = np.ones((1, power.shape[1]), bool)
    assert harmony(power, masks, RATE)[0, :12].argmax() == pitch_class


def test_the_mode_cue_tells_major_from_minor() -> None:
    def cue(semitones: tuple[int, ...]) -> float:
        chord = sum(tone(261.63 * 2 ** (step / 12)) for step in semitones)
        power = power_spectrum(chord.astype(np.float32), 4096, 1024)
        return float(harmony(power, np.ones((1, power.shape[1]), bool), RATE)[0, -4])

    assert cue((0, 4, 7, 12)) > 0 > cue((0, 3, 7, 12))


def test_semitone_filters_are_centred_on_their_tones() -> None:
    filters = semitone_filters(RATE, 4096)
    peaks = filters[24:].argmax(axis=1) * RATE / 4096
    tones = 440 * 2 ** ((33 + 24 + np.arange(48) - 69) / 12)
    assert np.abs(peaks - tones).max() < RATE / 4096


@pytest.mark.parametrize("bpm", [60, 90, 120, 150])
def test_the_tempo_profile_peaks_at_the_beat(bpm: int) -> None:
    strength = onsets(log_mel(clicks(bpm), RATE, 1024, 256, 40))
    profile = tempo_profile(strength, RATE / 256, 32)[3]
    grid = tempo_grid(32)
    near = np.abs(np.log2(grid / bpm)) < 0.08
    slower = np.abs(np.log2(grid / bpm * 2)) < 0.08  # every second beat matches as well
    assert profile[near].max() > 0.5
    assert profile[~near & ~slower & (grid < bpm * 1.5) & (grid > bpm * 0.7)].max() < profile[near].max()


def test_onset_density_counts_clicks() -> None:
    strength = onsets(log_mel(clicks(120), RATE, 1024, 256, 40))
    density = onset_statistics(strength, np.ones((1, strength.shape[1]), bool), RATE / 256)[0, -1] * 4
    assert 1.6 < density < 2.4


def test_features_have_the_stated_width_and_survive_silence_and_noise(section: EmbeddedParams) -> None:
    rng = np.random.default_rng(2)
    for sound in (
        np.zeros(RATE, np.float32),
        np.ones(RATE, np.float32),
        rng.uniform(-1, 1, 8 * RATE).astype(np.float32),
    ):
        features = describe_sound(sound, [0.0, 2.0, 4.0, 6.0], 2.0, section.music)
        assert features.shape == (4, music_dims(section.music))
        assert np.abs(features).max() < 1000  # far from float16's end


def test_segments_describe_their_own_seconds(section: EmbeddedParams) -> None:
    sound = np.concatenate([tone(200, 2.0), tone(3000, 2.0)])
    both = describe_sound(sound, [0.0, 2.0], 2.0, section.music)[:, : section.music.mel_bands]
    assert both[0].argmax() < both[1].argmax()
