"""Ranks on hand-written score matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encoder.ranking import competitors, ranks

EYE = np.eye(3, dtype=bool)


def test_plain_matrix() -> None:
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.1, 0.2, 0.3]])
    assert ranks(scores, EYE).tolist() == [1, 3, 1]


def test_ties_go_against_us() -> None:
    assert ranks(np.zeros((3, 3)), EYE).tolist() == [3, 3, 3]
    above, level = competitors(np.array([[0.5, 0.5, 0.7]]), EYE[:1])
    assert (above.tolist(), level.tolist()) == ([1], [1])


def test_the_best_of_several_positives_counts_and_the_others_do_not_compete() -> None:
    scores = np.array([[0.2, 0.9, 0.8, 0.85]])
    assert ranks(scores, np.array([[True, False, True, False]])).tolist() == [3]
    assert ranks(scores, np.array([[True, False, True, True]])).tolist() == [2]
    assert ranks(np.ones((1, 4)), np.array([[True, False, True, False]])).tolist() == [3]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="query 1 has no positive"):
        ranks(np.zeros((2, 2)), np.array([[True, False], [False, False]]))
    with pytest.raises(ValueError, match="NaN"):
        ranks(np.array([[np.nan, 0.0, 0.0]]), EYE[:1])
    with pytest.raises(ValueError, match="differ in shape"):
        ranks(np.zeros((2, 2)), EYE)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 12))
def test_shuffling_the_gallery_changes_nothing(seed: int, queries: int, gallery: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (queries, gallery)).astype(float)  # many ties
    positives = rng.random((queries, gallery)) < 0.3
    positives[np.arange(queries), rng.integers(0, gallery, queries)] = True
    order = rng.permutation(gallery)
    assert ranks(scores, positives).tolist() == ranks(scores[:, order], positives[:, order]).tolist()
    assert (ranks(scores, positives) >= 1).all()
    assert (ranks(scores, positives) <= gallery - positives.sum(axis=1) + 1).all()
