"""Kind hf: folders, models and keys that cannot be used are refused in one line that names them."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.features.extractor import build_extractor
from components.features.params import FeaturesParams
from components.features.source import Source
from components.modalities import Modality
from components.settings import ParamsError, parse_section
from tests.features import look_alikes
from tests.features.look_alikes import edited, section

TEXT = Source("t", "k", text="calm piano")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return look_alikes.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return look_alikes.clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return look_alikes.sentence(tmp_path_factory.mktemp("sentence"))


def refused(modality: Modality, folder: Path, message: str, **changed: Any) -> None:
    with pytest.raises(ValueError, match=message) as told:
        list(build_extractor(section(**{f"{modality}__model": folder}, **changed), modality).extract([TEXT]))
    assert "\n" not in str(told.value)


def test_a_folder_without_safetensors_is_refused_whatever_else_it_holds(clip: Path, tmp_path: Path) -> None:
    pickled = edited(clip, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    refused("text", pickled, r"no \*\.safetensors in it; pickled weights are not read")


def test_damaged_files_are_named(clip: Path, sentence: Path, tmp_path: Path) -> None:
    cut = edited(clip, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((clip / "model.safetensors").read_bytes()[:500])
    refused("text", cut, "cut: its model cannot be used")
    (cut / "config.json").write_text("{")
    refused("text", cut, "cut: its config cannot be used")
    speechless = edited(clip, tmp_path / "speechless")
    for path in speechless.glob("token*"):
        path.unlink()
    refused("text", speechless, "its tokenizer cannot be used")
    blind = edited(clip, tmp_path / "blind")
    (blind / "preprocessor_config.json").write_text("[")
    refused("video", blind, r"preprocessor_config\.json: damaged")
    (blind / "preprocessor_config.json").write_text('{"size": 32, "image_std": [1, 1, 1]}')
    refused("video", blind, r"preprocessor_config\.json: image_mean is missing")
    (blind / "preprocessor_config.json").unlink()
    refused("video", blind, r"no preprocessor_config\.json tells how pictures are prepared")
    odd = edited(sentence, tmp_path / "odd")
    (odd / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]')
    refused("text", odd, r"modules\.json: a module of type 'Dense' is not known")


def test_missing_weights_are_not_replaced_by_chance(clip: Path, tmp_path: Path) -> None:
    headless = edited(clip, tmp_path / "headless")
    weights = {k: v for k, v in load_file(clip / "model.safetensors").items() if k != "text_projection.weight"}
    save_file(weights, headless / "model.safetensors", metadata={"format": "pt"})
    refused("text", headless, "1 weights of CLIPTextModelWithProjection are missing")


def test_a_model_of_another_kind_is_named(clip: Path, clap: Path, sentence: Path) -> None:
    refused("music", clip, "a model of kind 'clip' is no music encoder here; known are clap")
    refused("video", sentence, "a model of kind 'bert' is no video encoder here; known are clip")
    refused("video", clap, "a model of kind 'clap' is no video encoder here")


def test_code_of_a_model_is_not_run(clip: Path, tmp_path: Path) -> None:
    code = edited(clip, tmp_path / "code", model_type="odd", auto_map={"AutoConfig": "odd.Odd"})
    (code / "odd.py").write_text("raise SystemExit('ran')")
    refused("text", code, "code: its config cannot be used")


def test_parts_that_do_not_fit_each_other_are_told(clap: Path, clip: Path, tmp_path: Path) -> None:
    crossed = edited(clap, tmp_path / "crossed")
    path = crossed / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"feature_size": 24}))
    with pytest.raises(ValueError, match="crossed: its model cannot be used") as told:
        extractor: Any = build_extractor(section(music__model=crossed), "music")
        list(extractor.batches.answers([("noise", extractor.encoder.example())]))
    assert "\n" not in str(told.value)


def test_keys_that_ask_too_much_are_named(clip: Path, clap: Path) -> None:
    refused("text", clip, r"features\.text\.max_tokens: the model of .* reads 40 tokens, not 41", text__max_tokens=41)
    refused("music", clap, r"features\.segment_s: the model of .* hears 1 s at once, not 2 s", segment_s=2.0)
    refused("music", clap, r"features\.music\.pooling: .* has an embedding of its own", music__pooling="mean")
    if not torch.cuda.is_available():
        refused("text", clip, r"features\.device: no GPU is visible here", device="cuda")


@pytest.mark.skipif(find_spec("timm") is not None, reason="needs a place without the package timm")
def test_pictures_of_pe_av_ask_for_the_package_they_need(tmp_path: Path) -> None:
    extractor: Any = build_extractor(section(video__model=look_alikes.perception(tmp_path, "video")), "video")
    with pytest.raises(ValueError, match="takes its picture model from the package timm, which is not") as told:
        list(extractor.batches.answers([("noise", extractor.encoder.example())]))
    assert "\n" not in str(told.value)


def test_a_model_that_is_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    refused("text", Path("some/model"), "some/model: neither a folder nor to be had from the hub: ConnectionError")


def test_a_model_of_the_hub_is_pinned_and_the_revision_is_in_the_spec(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(model: str, **how: Any) -> str:
        asked.update(how, model=model)
        return str(clip)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    spec = build_extractor(section(text__model="some/model", text__revision="abc123"), "text").spec()
    assert (spec["model"], spec["revision"]) == ("some/model", "abc123") == (asked["model"], asked["revision"])
    assert not any("bin" in pattern or ".py" in pattern or pattern == "*" for pattern in asked["allow_patterns"])


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("text", "output"), "words", "features.text.output"),
        (("video", "frames_per_s"), 0, "features.video.frames_per_s"),
        (("music", "pooling"), "max", "features.music.pooling"),
        (("music", "hop"), 256, "features.music.hop: unknown key"),
        (("dtype",), "int8", "features.dtype"),
        (("batch_size",), 0, "features.batch_size"),
    ],
)
def test_wrong_keys_of_the_section_are_named(path: tuple[str, ...], value: object, said: str) -> None:
    tree = {"features": section().model_dump()}
    place: Any = tree["features"]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(ParamsError) as error:
        parse_section(FeaturesParams, "features", tree)
    assert said in str(error.value) and "\n" not in str(error.value)
