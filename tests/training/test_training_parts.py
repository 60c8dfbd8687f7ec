"""The parts of training: draws, dropout of segments and modalities, texts, schedule, statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.modalities import MODALITIES, MUSIC, TEXT
from components.settings import ParamsError, parse_section
from components.store import FeatureStore
from components.training.batches import blend, drop_modalities, drop_segments, make_batch
from components.training.data import Features, Texts
from components.training.draws import batch_rows, draws
from components.training.loop import learning_rate
from components.training.params import TrainingSection
from components.training.statistics import standardise_inputs
from tests.training.corpus_look_alike import PARAMS, write_corpus


def section(**changes: Any) -> TrainingSection:
    return TrainingSection.model_validate(PARAMS["training"] | changes)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> tuple[Features, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("parts")
    manifest = write_corpus(root)
    stores = (FeatureStore.open(root / "features" / name) for name in ("video", "music", "text", "annotations"))
    return Features(*stores), manifest


def test_an_epoch_shows_every_clip_once_and_the_next_in_another_order() -> None:
    epochs = [np.concatenate([batch_rows(3, step, 12, 4) for step in range(first, first + 3)]) for first in (0, 3)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(12))
    assert epochs[0].tolist() != epochs[1].tolist()
    assert len(batch_rows(3, 0, 13, 4)) == 4


def test_draws_depend_on_seed_purpose_and_step_alone() -> None:
    first = draws(1, "text", 9).random(3)
    np.testing.assert_array_equal(first, draws(1, "text", 9).random(3))
    others = [draws(2, "text", 9), draws(1, "order", 9), draws(1, "text", 10)]
    assert all(not np.array_equal(first, other.random(3)) for other in others)


def test_segment_dropout_keeps_one_and_never_adds() -> None:
    mask = np.arange(6)[None, :] < np.array([1, 3, 6, 6] * 250)[:, None]
    kept = drop_segments(mask, 0.9, draws(1, "segments", 0))
    assert not (kept & ~mask).any()
    assert kept.any(axis=1).all()
    assert kept[2::4].mean() < 0.3
    np.testing.assert_array_equal(drop_segments(mask, 0.0, draws(1, "segments", 0)), mask)


def test_modalities_are_dropped_at_their_rates_and_never_both() -> None:
    seen, read = np.ones((20_000, 2), bool), np.ones((20_000, 1), bool)
    read[::2] = False  # every other sample has no text: its video must stay
    chance = draws(1, "modality", 0).random(20_000)
    seen, read = drop_modalities(seen, read, section(text_dropout=0.3, video_dropout=0.2), chance)
    assert (seen.any(axis=1) | read.any(axis=1)).all()
    assert seen[::2].all()
    assert 1 - seen[1::2, 0].mean() == pytest.approx(0.2, abs=0.02)
    assert 1 - read[1::2, 0].mean() == pytest.approx(0.3, abs=0.02)


def test_blend_mixes_every_modality_by_one_share_of_at_least_a_half() -> None:
    batch = 8
    own = np.arange(batch, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    mask = np.ones((batch, 2), bool)
    heard = mask.copy()
    heard[5] = False  # nothing to mix clip 5's music with, nor into another's
    music, video = own + 100, own * 10
    given = {"music": (music, heard), "video": (video, mask)}
    mixed = blend(given, 1.0, draws(1, "mixup", 3))  # type: ignore[arg-type]
    other = draws(1, "mixup", 3)
    other.beta(1.0, 1.0, batch)
    partner = other.permutation(batch)
    for clip in range(batch):
        at = mixed["video"][0][clip, 0, 0] / 10  # between the clip and its partner, nearer to the clip
        assert abs(at - clip) <= abs(clip - partner[clip]) / 2 + 1e-5
        expected = clip + 100 if 5 in (clip, partner[clip]) else at + 100
        np.testing.assert_allclose(mixed["music"][0][clip], expected, rtol=1e-5)
    np.testing.assert_array_equal(mixed["music"][1], heard)


def test_texts_prefer_what_is_asked_for(features: tuple[Features, list[dict[str, Any]]]) -> None:
    stores, _ = features
    texts = Texts(stores.captions, stores.annotations)
    ids = ["clip-0000", "clip-0001", "clip-0040"]  # the last has no annotation
    captions, annotations = stores.captions.gather(ids)[0], stores.annotations.gather(ids[:2])[0]
    values, mask = texts.gather(ids)
    assert mask.all()
    np.testing.assert_array_equal(values, np.concatenate([annotations, captions[2:]]))
    values, _ = texts.gather(ids, np.array([False, True, True]))
    np.testing.assert_array_equal(values, np.stack([captions[0], annotations[1], captions[2]]))


@pytest.mark.parametrize(("human_text", "same_as"), [(0.0, "captions"), (1.0, "annotations")])
def test_a_batch_shows_the_text_that_human_text_says(
    features: tuple[Features, list[dict[str, Any]]], human_text: float, same_as: str
) -> None:
    stores, manifest = features
    chosen = section(human_text=human_text, text_dropout=0.0, video_dropout=0.0, mixup=0.0)
    clips = stores.clips(manifest, "train", 2)
    given, _ = make_batch(stores, clips, chosen, 16, 0, torch.device("cpu"))
    ids = [clips.ids[row] for row in batch_rows(chosen.seed, 0, len(clips), 16)]
    told = [clip for clip in ids if clip in stores.annotations]
    expected = getattr(stores, same_as).gather(told)[0]
    rows = [ids.index(clip) for clip in told]
    np.testing.assert_array_equal(given[TEXT][0][rows].numpy(), expected)


def test_schedule_rises_then_falls_to_zero() -> None:
    shape = section(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(shape, step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-3


def test_inputs_are_standardised_over_the_train_clips(features: tuple[Features, list[dict[str, Any]]]) -> None:
    stores, manifest = features
    model = TrimodalModel(
        EncoderSection.model_validate(PARAMS["encoder"]), {m: stores.store(m).spec["dims"] for m in MODALITIES}
    )
    clips = stores.clips(manifest, "train", 2)
    standardise_inputs(model, stores, clips, human_text=False)
    values, mask = stores.music.gather(clips.ids)
    rows = model.towers[MUSIC].standardise(torch.from_numpy(values[mask]))
    torch.testing.assert_close(rows.mean(dim=0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(dim=0, correction=0), torch.ones(10), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_steps": 60}, "warmup_steps 60 must be below steps 60"),
        ({"text_dropout": 0.8, "video_dropout": 0.3}, "text_dropout 0.8 + video_dropout 0.3 exceed 1"),
        ({"human_text": 1.5}, "training.human_text"),
        ({"learning_rate": 0}, "training.learning_rate"),
        ({"lerning_rate": 1}, "training.lerning_rate: unknown key"),
    ],
)
def test_wrong_params_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as error:
        parse_section(TrainingSection, "training", {"training": PARAMS["training"] | changes})
    assert message in str(error.value)


def test_stores_that_lie_elsewhere_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        FeatureStore.open(tmp_path / "nowhere")
