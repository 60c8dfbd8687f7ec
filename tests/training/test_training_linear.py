"""Linear paths in training: fitted on what training shows, resumed to the same bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.encoder.linear import LinearPaths
from components.encoder.params import EncoderSection
from components.modalities import TEXT, VIDEO
from components.store import FeatureStore
from components.training.checkpoint import Checkpoints
from components.training.closed_form import STRENGTHS, fit_linear_paths, fit_strongest
from components.training.data import Features
from components.training.params import TrainingSection
from components.training.run import Trained, train
from tests.training.corpus_look_alike import PARAMS, write_corpus

ENCODER = EncoderSection.model_validate(PARAMS["encoder"] | {"linear": {"kind": "cca", "directions": 4, "share": 0.7}})
Corpus = tuple[Features, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    manifest = write_corpus(root)
    stores = (FeatureStore.open(root / "features" / name) for name in ("video", "music", "text", "annotations"))
    return Features(*stores), manifest


def section(**changes: Any) -> TrainingSection:
    return TrainingSection.model_validate(PARAMS["training"] | {"steps": 20} | changes)


def run(corpus: Corpus, folder: Path) -> Trained:
    return train(corpus[1], corpus[0], ENCODER, section(), folder, folder.with_suffix(".jsonl"))


def fitted(corpus: Corpus, **changes: Any) -> LinearPaths:
    features, manifest = corpus
    paths = LinearPaths({"video": 8, "text": 12, "music": 10}, 4, 0.7)
    train_clips, val = (features.clips(manifest, split, 2) for split in ("train", "val"))
    fit_linear_paths(paths, features, train_clips, val, section(**changes))
    return paths


def test_the_strength_is_the_one_that_suits_the_val_pairs() -> None:
    draw = np.random.default_rng(0)
    factors = draw.normal(size=(90, 2))
    query, music = (factors @ draw.normal(size=(2, d)) + draw.normal(size=(90, d)) for d in (30, 20))
    alike = np.eye(30, dtype=bool)
    found, power = fit_strongest(query[:60], music[:60], query[60:], music[60:], alike, 8)
    scores = found.scores(query[60:], music[60:], power)
    best = np.log((scores >= np.diag(scores)[:, None]).sum(axis=1)).mean()
    assert power in {strength[2] for strength in STRENGTHS}
    assert best < np.log(np.arange(1, 31)).mean() - 0.5  # of a random order
    for other in (1.0, 2.0):
        tried = found.scores(query[60:], music[60:], other)
        assert best <= np.log((tried >= np.diag(tried)[:, None]).sum(axis=1)).mean()


@pytest.mark.parametrize(("changes", "left_out"), [({"text_dropout": 1.0, "video_dropout": 0.0}, TEXT), ({"text_dropout": 0.0, "video_dropout": 1.0}, VIDEO)])  # fmt: skip
def test_a_modality_that_training_never_shows_has_no_path(corpus: Corpus, changes: Any, left_out: str) -> None:
    paths = fitted(corpus, **changes)
    for modality in (VIDEO, TEXT):
        assert bool(paths.of_query[modality].weight.any()) == (modality != left_out)
        assert bool(paths.of_music[modality].weight.any()) == (modality != left_out)


def test_annotations_count_only_where_training_shows_them(corpus: Corpus) -> None:
    captions, both = fitted(corpus, human_text=0.0), fitted(corpus, human_text=0.5)
    assert torch.equal(captions.of_query[VIDEO].weight, both.of_query[VIDEO].weight)
    assert not torch.equal(captions.of_query[TEXT].mean, both.of_query[TEXT].mean)


def test_too_few_texts_leave_the_towers_alone_to_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = write_corpus(tmp_path, annotated=0.0, without={"text": set(range(76))})
    stores = (FeatureStore.open(tmp_path / "features" / name) for name in ("video", "music", "text", "annotations"))
    with caplog.at_level("INFO"):
        paths = fitted((Features(*stores), manifest))
    assert "no linear path of text" in caplog.text
    assert paths.of_query[VIDEO].weight.any() and not paths.of_query[TEXT].weight.any()


def test_an_interrupted_run_resumes_to_the_same_bits(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, save = run(corpus, tmp_path / "whole"), Checkpoints.save

    def interrupted(self: Checkpoints, *state: Any) -> None:
        save(self, *state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "cut")
    resumed = run(corpus, tmp_path / "cut")
    expected = whole.model.state_dict()
    assert any(name.startswith("linear.") for name in expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.model.state_dict().items())
    assert resumed.history == whole.history
