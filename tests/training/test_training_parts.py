"""The parts of training: draws, dropout of segments and modalities, texts, schedule, statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.encoder.towers import Standardise
from components.modalities import MODALITIES, MUSIC, TEXT
from components.settings import ParamsError, parse_section
from components.store import FeatureStore
from components.training import batches
from components.training.batches import (
    Batches,
    ahead,
    batch_rows,
    blend,
    draws,
    drop_modalities,
    drop_segments,
    on_device,
)
from components.training.closed_form import standardise_inputs
from components.training.data import Features
from components.training.loop import learning_rate
from components.training.params import TrainingSection
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


def test_blend_mixes_every_modality_by_one_share_and_leaves_what_the_partner_lacks() -> None:
    own = torch.arange(4.0)[:, None, None] * torch.ones(1, 2, 3)
    mask = torch.ones(4, 2, dtype=torch.bool)
    heard = mask.clone()
    heard[2] = False  # nothing to mix clip 2's music with, nor into another's
    share, partners = torch.tensor([0.75, 0.5, 0.9])[:, None, None], torch.tensor([3, 2, 0])
    mixed = blend({"music": (own + 100, heard), "video": (own * 10, mask)}, share, partners)
    # Clips 0, 1, 2 with partners 3, 2, 0; the fourth is a partner only.
    expected = torch.tensor([0.25 * 30, 0.5 * 10 + 0.5 * 20, 0.9 * 20])
    torch.testing.assert_close(mixed["video"][0][:, 0, 0], expected)
    torch.testing.assert_close(mixed["music"][0][:, 1, 2], torch.tensor([0.75 * 100 + 0.25 * 103, 101.0, 102.0]))
    assert torch.equal(mixed["music"][1], heard[:3])


def test_texts_prefer_what_is_asked_for(features: tuple[Features, list[dict[str, Any]]]) -> None:
    stores, manifest = features
    clips = stores.clips(manifest, "train", 2)
    at = np.array([0, 1, 40])  # the last has no annotation
    ids = [clips.ids[n] for n in at]
    captions, annotations = stores.captions.gather(ids)[0], stores.annotations.gather(ids[:2])[0]
    values, mask = clips.texts.gather(ids)
    assert mask.all()
    np.testing.assert_array_equal(values, np.concatenate([annotations, captions[2:]]))
    human = np.array([False, True, True])
    np.testing.assert_array_equal(clips.texts.take(at, human), np.stack([captions[0], annotations[1], captions[2]]))
    assert clips.texts.lengths(at, human).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("human_text", "same_as"), [(0.0, "captions"), (1.0, "annotations")])
def test_a_batch_shows_the_text_that_human_text_says(
    features: tuple[Features, list[dict[str, Any]]], human_text: float, same_as: str
) -> None:
    stores, manifest = features
    chosen = section(human_text=human_text, text_dropout=0.0, video_dropout=0.0, mixup=0.0)
    clips = stores.clips(manifest, "train", 2)
    given, _ = on_device(Batches(stores, clips, chosen, 16, slice(0, 16)).parcel(0), torch.device("cpu"))
    ids = [clips.ids[row] for row in batch_rows(chosen.seed, 0, len(clips), 16)]
    told = [clip for clip in ids if clip in stores.annotations]
    expected = getattr(stores, same_as).gather(told)[0]
    rows = [ids.index(clip) for clip in told]
    np.testing.assert_array_equal(given[TEXT][0][rows].numpy(), expected)


def test_parts_of_a_batch_make_up_the_whole_to_the_last_bit(
    features: tuple[Features, list[dict[str, Any]]],
) -> None:
    stores, manifest = features
    clips = stores.clips(manifest, "train", 2)
    like = Standardise(10, 5.0)
    like.set(torch.arange(10.0), torch.full((10,), 2.0))

    def given(part: slice, step: int) -> Any:
        parcel = Batches(stores, clips, section(mixup=1.0), 12, part).parcel(step)
        return on_device(parcel, torch.device("cpu"), like)

    for step in range(3):
        whole, same = given(slice(0, 12), step)
        parts = [given(slice(start, start + 4), step) for start in (0, 4, 8)]
        for modality in MODALITIES:
            for side in (0, 1):
                assert torch.equal(torch.cat([batch[modality][side] for batch, _ in parts]), whole[modality][side])
        for name in ("tracks", "artists", "sound"):
            assert torch.equal(torch.cat([getattr(of, name) for _, of in parts]), getattr(same, name))
        ids = [clips.ids[row] for row in batch_rows(5, step, len(clips), 12)]
        values, mask = stores.music.gather(ids)
        mean = torch.from_numpy(values.sum(axis=1) / mask.sum(axis=1, keepdims=True)).float()
        torch.testing.assert_close(same.sound, (mean - torch.arange(10.0)) / 2.0)


@pytest.mark.parametrize("part", [slice(0, 12), slice(4, 8)])
def test_features_held_on_the_device_give_the_same_batch(
    features: tuple[Features, list[dict[str, Any]]], part: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "CHUNK", 10)  # more than one part
    stores, manifest = features
    clips, cpu = stores.clips(manifest, "train", 2), torch.device("cpu")
    held = batches.gathered(stores, clips, cpu)
    for step in range(3):
        ways = [Batches(stores, clips, section(mixup=1.0, human_text=0.5), 12, part, held=h) for h in (None, held)]
        (expected, same), (found, too) = (on_device(way.parcel(step), cpu) for way in ways)
        for modality in MODALITIES:
            for side in (0, 1):
                assert torch.equal(found[modality][side], expected[modality][side])
        assert torch.equal(too.tracks, same.tracks)


def test_the_next_is_made_ahead_in_order_and_an_error_comes_where_it_belongs() -> None:
    def make(step: int) -> int:
        if step == 3:
            raise ValueError("no third")
        return step * step

    seen = []
    with pytest.raises(ValueError, match="no third"):
        for step, made in ahead(make, range(5)):
            seen.append((step, made))
    assert seen == [(0, 0), (1, 1), (2, 4)]
    assert list(ahead(make, [])) == []


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
        ({"batch": 10, "processes": 4}, "batch 10 must be a multiple of processes 4"),
        ({"precision": "float16"}, "training.precision"),
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
