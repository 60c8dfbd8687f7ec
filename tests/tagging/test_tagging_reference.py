"""The published taggers' own weights, real recordings, and a real tagger's probabilities with human labels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tagging_reference import htk_bank, label_files, listener, numbers
from components.media import mono
from components.tagging.cnn import Cnn
from components.tagging.scores import areas
from components.tagging.weights import read_state

DATA = Path(__file__).parents[2].parent / "shared/data"

pytestmark = pytest.mark.skipif(not (DATA / "tagger_weights").is_dir(), reason=f"no reference data in {DATA}")

PUBLISHED = sorted(
    str(path.parent.relative_to(DATA / "tagger_weights")) for path in DATA.glob("tagger_weights/*/*/*.pth")
)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return label_files(DATA, tmp_path_factory.mktemp("labels"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_state_dict_loads_strictly(name: str, labels: dict[str, Path]) -> None:
    model, _ = listener(DATA, labels, name)
    assert len(model.labels) == 50


def test_the_stored_filterbank_is_htks_and_the_window_hanns() -> None:
    state = read_state(DATA / "tagger_weights" / "mtat" / "fcn" / "best_model.pth")
    np.testing.assert_allclose(state["spec.mel_scale.fb"].numpy(), htk_bank(), atol=2e-5)  # stored in float32
    torch.testing.assert_close(state["spec.spectrogram.window"], torch.hann_window(512))


def heard(model: Cnn, recording: str, start_s: float) -> dict[str, float]:
    path = next((DATA / "audio_real" / "librosa").glob(recording))
    sound = mono(path, model.rate_hz, start_s, start_s + model.window_s)
    return dict(zip(model.labels, model(sound[None])[0].tolist(), strict=True))


def likeliest(said: dict[str, float], count: int) -> set[str]:
    return set(sorted(said, key=lambda label: -said[label])[:count])


def test_an_orchestra_is_heard_as_one(labels: dict[str, Path]) -> None:
    dance = "Hungarian_Dance*.ogg"
    for name in ("mtat/fcn", "mtat/musicnn"):
        assert likeliest(heard(listener(DATA, labels, name)[0], dance, 10.0), 3) == {"classical", "violin", "strings"}
    for name in ("jamendo/fcn", "jamendo/crnn"):
        assert "genre---classical" in likeliest(heard(listener(DATA, labels, name)[0], dance, 10.0), 1)


def test_a_piano_is_heard_as_one(labels: dict[str, Path]) -> None:
    said = heard(listener(DATA, labels, "mtat/fcn")[0], "*ragtime.ogg", 20.0)
    assert likeliest(said, 1) == {"piano"}


def test_the_metric_gives_the_authors_figure() -> None:
    folder = DATA / "mtat_real_predictions" / "train-mtat-musicnn"
    roc_auc, pr_auc = np.mean(areas(numbers(folder / "gt.csv") > 0.5, numbers(folder / "est.csv")), axis=0)
    assert round(float(roc_auc), 4) == 0.9109 and round(float(pr_auc), 4) == 0.4509
