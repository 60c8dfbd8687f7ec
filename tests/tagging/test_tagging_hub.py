"""Models in the format of the transformers library, on tiny ones with weights by chance."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.tagging.clap import Clap
from components.tagging.hf import Hf
from components.tagging.params import ClapParams, HfParams
from components.taxonomy import read_taxonomy
from tests.tagging.look_alikes import AUDIO, RATE_HZ, tone

TAXONOMY = read_taxonomy(Path("components/taxonomy.yaml"))
HUB = AUDIO | {"revision": "main"}
PROMPTS = {
    "genres": "this is {} music", "moods": "this music sounds {}", "instruments": "this is music with {}",
    "other": "this is {}", "neutral": "this is music",
}  # fmt: skip
SOUNDS = np.stack([tone(hz, 1.0) for hz in (110, 1000, 5000)] + [np.zeros(RATE_HZ, np.float32)])


@pytest.fixture(scope="module")
def ast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("ast")
    config = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_mel_bins=32,
        max_length=98, frequency_stride=16, time_stride=16, id2label={0: "Rock music", 1: "Piano", 2: "Speech"},
    )  # fmt: skip
    transformers.ASTForAudioClassification(config).save_pretrained(folder)
    transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=98).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["fusion", "rand_trunc"])
def clap(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clap")
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4,
        "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16,
        "num_classes": 2, "enable_fusion": request.param == "fusion",
    }  # fmt: skip
    text = {
        "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 40,
    }  # fmt: skip
    config = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=16)
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        feature_size=16, sampling_rate=RATE_HZ, hop_length=160, max_length_s=1, fft_window_size=512,
        frequency_max=8000, truncation=request.param,
    ).save_pretrained(folder)  # fmt: skip
    words = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "this",
        "is",
        "music",
        "with",
        "sounds",
        "rock",
        "jazz",
        "piano",
        "sad",
        "happy",
        "kazoo",
    ]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), words, strict=False))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def hf_section(folder: Path, **changed: Any) -> HfParams:
    own = {"kind": "hf", "model": str(folder), "window_s": 1.0, "activation": "sigmoid"}
    return HfParams.model_validate(HUB | own | changed)


def clap_section(folder: Path, **changed: Any) -> ClapParams:
    own = {"kind": "clap", "model": str(folder), "labels": None, "prompts": PROMPTS, "temperature": 1.0}
    return ClapParams.model_validate(HUB | own | {"probability": "contrast"} | changed)


def edited(folder: Path, copy: Path, **config: Any) -> Path:
    """A copy of a model's folder with another config."""
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    content = json.loads((copy / "config.json").read_text()) | config
    (copy / "config.json").write_text(json.dumps(content))
    return copy


def test_an_audio_classifier_tags(ast: Path) -> None:
    sigmoid = Hf(hf_section(ast))
    assert sigmoid.labels == ("Rock music", "Piano", "Speech") and sigmoid.rate_hz == 16000
    said = sigmoid(SOUNDS)
    assert said.shape == (4, 3) and not np.allclose(said[0], said[2])
    np.testing.assert_array_equal(sigmoid(SOUNDS[::-1])[::-1], said)
    softmax = Hf(hf_section(ast, activation="softmax"))
    np.testing.assert_allclose(softmax(SOUNDS).sum(axis=1), 1)
    np.testing.assert_allclose(
        np.log(softmax(SOUNDS)[:, 0] / softmax(SOUNDS)[:, 1]), logit(said)[:, 0] - logit(said)[:, 1]
    )
    assert softmax.digest != sigmoid.digest


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability))


def test_the_activation_may_come_from_the_models_config(ast: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no problem_type; set tagging\.activation"):
        Hf(hf_section(ast, activation="config"))
    told = edited(ast, tmp_path / "told", problem_type="single_label_classification")
    np.testing.assert_allclose(Hf(hf_section(told, activation="config"))(SOUNDS).sum(axis=1), 1)


def test_a_window_longer_than_the_model_hears_is_refused(ast: Path) -> None:
    with pytest.raises(ValueError, match=r"tagging\.window_s: the model of .* hears less than 2 s at once"):
        Hf(hf_section(ast, window_s=2.0))


def test_folders_that_are_not_audio_classifiers_are_refused_in_one_line(ast: Path, clap: Path, tmp_path: Path) -> None:
    def refused(folder: Path | str, message: str, kind: Any = Hf, section: Any = hf_section) -> None:
        with pytest.raises(ValueError, match=message) as told:
            kind(section(folder)) if kind is Hf else kind(section(folder), TAXONOMY)
        assert "\n" not in str(told.value)

    refused(
        edited(ast, tmp_path / "unnamed", id2label={0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}),
        "does not tell what the outputs mean",
    )
    refused(
        edited(ast, tmp_path / "larger", hidden_size=32, intermediate_size=32),
        "missing or of another size|its model cannot be used",
    )
    refused(
        edited(ast, tmp_path / "code", model_type="odd", auto_map={"AutoConfig": "odd.Odd"}), "its model cannot be used"
    )
    refused(clap, "its model cannot be used")
    other = "rand_trunc" if "fusion" in (clap / "preprocessor_config.json").read_text() else "fusion"
    crossed = edited(clap, tmp_path / "crossed")
    extractor = json.loads((crossed / "preprocessor_config.json").read_text()) | {"truncation": other}
    (crossed / "preprocessor_config.json").write_text(json.dumps(extractor))
    if other == "fusion":
        refused(crossed, "its model cannot be used", Clap, clap_section)
    refused(ast, "its tokenizer cannot be used", Clap, clap_section)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "pytorch_model.bin").write_bytes(b"pickle")
    refused(bare, r"no \*\.safetensors in it; pickled weights are not read")
    headless = edited(ast, tmp_path / "headless")
    from safetensors.torch import load_file, save_file

    weights = {name: v for name, v in load_file(headless / "model.safetensors").items() if "classifier" not in name}
    save_file(weights, headless / "model.safetensors", metadata={"format": "pt"})
    refused(headless, "weights of ASTForAudioClassification are missing")


def test_a_model_that_is_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        ValueError, match="some/model: neither a folder nor to be had from the hub: ConnectionError: no network"
    ):
        Hf(hf_section(Path("some/model")))


def test_what_comes_from_the_hub_is_pinned_and_free_of_pickles(ast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(model: str, **how: Any) -> str:
        asked.update(how, model=model)
        return str(ast)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert Hf(hf_section(Path("some/model"), revision="abc123")).digest == Hf(hf_section(ast)).digest
    assert (asked["model"], asked["revision"]) == ("some/model", "abc123")
    assert not any("bin" in pattern or ".py" in pattern or pattern == "*" for pattern in asked["allow_patterns"])


def test_clap_weighs_each_label_against_the_neutral_sentence(clap: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("genre---rock\njazz\npiano\nsad\nkazoo\n")
    section = clap_section(clap, labels=str(tmp_path / "labels.txt"))
    model = Clap(section, TAXONOMY)
    assert model.labels == ("genre---rock", "jazz", "piano", "sad", "kazoo") and model.window_s == 1.0
    said = model(SOUNDS)
    assert said.shape == (4, 5) and np.all((said > 0) & (said < 1))
    np.testing.assert_array_equal(model(SOUNDS), said)  # the extractor draws by chance which sound is long
    np.testing.assert_array_equal(model(SOUNDS[::-1])[::-1], said)
    neutral = Clap(
        clap_section(
            clap, labels=str(tmp_path / "labels.txt"), prompts=dict.fromkeys(PROMPTS, "{}") | {"neutral": "jazz"}
        ),
        TAXONOMY,
    )
    np.testing.assert_allclose(neutral(SOUNDS)[:, 1], 0.5, atol=1e-6)  # the sentence is the neutral one
    warmer = Clap(section.model_copy(update={"temperature": 2.0}), TAXONOMY)
    np.testing.assert_allclose(logit(warmer(SOUNDS)), logit(said) / 2, atol=1e-6)


def test_clap_softmax_shares_one_among_a_groups_labels(clap: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("rock\njazz\npiano\nsad\nhappy\nkazoo\n")
    said = Clap(clap_section(clap, labels=str(tmp_path / "labels.txt"), probability="softmax"), TAXONOMY)(SOUNDS)
    np.testing.assert_allclose(said[:, :2].sum(axis=1), 1)
    np.testing.assert_allclose(said[:, 3:5].sum(axis=1), 1)
    np.testing.assert_allclose(said[:, [2, 5]], 1)  # alone in their groups


def test_clap_takes_the_taxonomys_names_by_default(clap: Path) -> None:
    model = Clap(clap_section(clap), TAXONOMY)
    assert set(model.labels) == {name for _, name in TAXONOMY.entries}
    assert len(model.labels) == len(set(model.labels))
