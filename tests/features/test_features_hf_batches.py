"""Batches across clips: one shape, and answers that depend on the clip alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.features.hf.batches import Batches

Clips = list[tuple[str, np.ndarray]]


def clips_of(counts: list[int], wide: list[bool]) -> Clips:
    rng = np.random.default_rng(0)
    return [
        (f"c{at}", rng.normal(size=(count, 5 if broad else 3)).astype(np.float32))
        for at, (count, broad) in enumerate(zip(counts, wide, strict=True))
    ]


class Model:
    """Doubles; where asked, a row's place in the batch moves its last digits, as a kernel may."""

    def __init__(self, place_matters: bool) -> None:
        self.place_matters = place_matters
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, items: np.ndarray) -> np.ndarray:
        self.seen.append(items.shape)
        nudge = np.arange(len(items), dtype=np.float32)[:, None] * 1e-6 if self.place_matters else 0.0
        return np.asarray(2 * items[:, :2] + nudge, np.float32)


def noise(item: np.ndarray) -> np.ndarray:
    return np.full_like(item, 0.37)


counts = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(counts, st.integers(1, 5), st.booleans(), st.randoms())
def test_answers_do_not_depend_on_the_other_clips(
    made: list[tuple[int, bool]], size: int, place_matters: bool, random: object
) -> None:
    clips = clips_of([count for count, _ in made], [broad for _, broad in made])
    model = Model(place_matters)
    together = {clip_id: answers for clip_id, _, answers in Batches(model, noise, size).answers(clips)}
    assert set(together) == {clip_id for clip_id, _ in clips}
    random.shuffle(clips)  # type: ignore[attr-defined]
    for clip in clips:
        ((_, _, alone),) = Batches(Model(place_matters), noise, size).answers([clip])
        assert together[clip[0]].tobytes() == alone.tobytes()
    assert {shape[0] for shape in model.seen} == {size}, "every batch has the one size"


def test_clips_share_batches_where_place_does_not_matter() -> None:
    clips = clips_of([2] * 6, [False] * 6)
    shared, alone = Model(False), Model(True)
    list(Batches(shared, noise, 4).answers(clips))
    list(Batches(alone, noise, 4).answers(clips))
    assert (len(shared.seen), len(alone.seen)) == (1 + 3, 1 + 6)  # the first is the trial


def test_clips_that_could_not_be_read_are_passed_on() -> None:
    failure = ValueError("unreadable")
    clips = [("a", failure), *clips_of([1], [False])]
    found = {clip_id: answers for clip_id, _, answers in Batches(Model(False), noise, 4).answers(clips)}
    assert found["a"] is failure and found["c0"].shape == (1, 2)


def test_what_the_model_raises_is_not_hidden() -> None:
    def broken(items: np.ndarray) -> np.ndarray:
        raise ValueError("features.batch_size: not enough memory")

    with pytest.raises(ValueError, match="not enough memory"):
        list(Batches(broken, noise, 2).answers(clips_of([1], [False])))
