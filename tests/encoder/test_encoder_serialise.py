"""A model as files: the same after a round trip, refused when it is not ours."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.encoder.serialise import CONFIG, WEIGHTS, load_model, save_model
from components.modalities import MUSIC, TEXT, VIDEO

from .sections import PLAIN

SECTION = EncoderSection.model_validate(PLAIN)
SPECS = {VIDEO: "v" * 64, TEXT: "t" * 64, MUSIC: "m" * 64}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    model = TrimodalModel(SECTION, {VIDEO: 7, TEXT: 11, MUSIC: 9})
    model.towers[VIDEO].standardise.set(torch.randn(7), torch.rand(7) + 1)
    save_model(tmp_path, model, SPECS)
    return tmp_path


def edit(folder: Path, **changes: object) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip_gives_the_same_numbers_and_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    loaded = load_model(folder)
    torch.manual_seed(3)
    model = TrimodalModel(SECTION, {VIDEO: 7, TEXT: 11, MUSIC: 9})
    model.towers[VIDEO].standardise.set(torch.randn(7), torch.rand(7) + 1)
    video = (np.random.default_rng(0).normal(size=(4, 3, 7)).astype(np.float32), np.ones((4, 3), bool))
    np.testing.assert_array_equal(loaded.model.embed_query(video=video), model.embed_query(video=video))
    assert loaded.features == SPECS
    assert not loaded.model.training
    again = tmp_path_factory.mktemp("again")
    save_model(again, loaded.model, SPECS)
    for name in (WEIGHTS, CONFIG):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_loading_draws_nothing_from_the_callers_stream(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(folder)
    assert torch.equal(torch.rand(3), expected)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "model.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"model\.pt: pickled weights can run code"):
        load_model(folder)


def test_a_pickle_under_our_name_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="sha256 differs"):
        load_model(folder)


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"not the weights config\.json speaks of"):
        load_model(folder)


def test_config_that_does_not_fit_the_weights_is_refused(folder: Path) -> None:
    edit(folder, encoder=SECTION.model_dump() | {"width": 32})
    with pytest.raises(ValueError, match="do not fit together") as error:
        load_model(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other/1"}, "format 'other/1', expected"),
        ({"encoder": {"width": 16}}, "encoder.layers: missing"),
        ({"encoder": SECTION.model_dump() | {"new": 1}}, "encoder.new: unknown key"),
        ({"modalities": {}}, "do not fit together"),
    ],
)
def test_foreign_config_is_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert message in str(error.value)
    assert "params.yaml" not in str(error.value)


def test_missing_and_broken_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json: no such file"):
        load_model(tmp_path / "nowhere")
    (folder / CONFIG).write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON"):
        load_model(folder)
    (folder / CONFIG).write_text("[]")
    with pytest.raises(ValueError, match="not a trimodal model"):
        load_model(folder)


def test_the_digest_names_the_weights(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    torch.manual_seed(4)
    save_model(other, TrimodalModel(SECTION, {VIDEO: 7, TEXT: 11, MUSIC: 9}), SPECS)
    assert load_model(folder).digest == load_model(folder).digest != load_model(other).digest
