"""Text features: hashed counts that put like sentences near each other."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.features.params import EmbeddedParams, TextParams
from components.features.source import Source
from components.features.text import NoWordsError, text_features, words_of

PARAMS = TextParams(dims=512, word_ngram=2, char_ngram_min=3, char_ngram_max=5)


def features(text: str) -> np.ndarray:
    return text_features(Source("c", "k", text=text), PARAMS)[0]


def test_the_hash_is_the_same_in_every_process() -> None:
    row = features("folk guitar")
    words = row[:256]

    for run in ("folk", "guitar", "folk guitar"):
        code = zlib.crc32(run.encode())
        assert np.isclose(words[(code >> 1) % 256], (1 if code & 1 else -1) * np.sqrt(0.5 / 3), atol=1e-6)


def test_length_is_one_and_halves_are_equal() -> None:
    row = features("a warm and slow piano piece")
    assert np.isclose(np.linalg.norm(row), 1) and np.isclose(np.linalg.norm(row[:256]), np.sqrt(0.5))


def test_spellings_are_near_and_other_words_far() -> None:
    folk, folky, techno = features("folk tune"), features("folky tunes"), features("hard techno")
    assert folk @ folky > 0.2 > abs(folk @ techno)


def test_case_width_and_punctuation_do_not_matter() -> None:
    np.testing.assert_array_equal(features("Hip-Hop, now!"), features("hip hop NOW"))
    assert words_of("\uff30\uff29\uff21\uff2e\uff2f don't _x_") == ["piano", "don't", "x"]


@pytest.mark.parametrize("text", ["", "  \n", "!!! ... ___"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(NoWordsError):
        features(text)


@given(st.text())
def test_any_text_is_a_unit_vector_or_refused(text: str) -> None:
    try:
        row = features(text)
    except NoWordsError:
        return
    assert np.isfinite(row).all() and np.linalg.norm(row) < 1.001


def test_a_megabyte_is_cut_not_counted(section: EmbeddedParams) -> None:
    np.testing.assert_array_equal(features("word " * 200_000), features("word " * 4_000))
