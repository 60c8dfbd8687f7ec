"""Loading a model: what is refused and in which words, what a model's identity covers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.captioning.bloom import LocalModel
from components.captioning.completion import Request
from components.captioning.load import context_length, load_model, load_tokenizer
from components.captioning.params import BloomParams
from components.code import covered
from tests.traced import ran


def section(model: Path | str, **update: Any) -> BloomParams:
    # Only these fields are the model's; the others are about prompts and checks.
    values = {
        "model": str(model), "revision": "main", "dtype": "float32", "quantisation": "none", "device_map": "none",
        "batch_size": 4,
    }  # fmt: skip
    return BloomParams.model_construct(**(values | update))


def refusal(model: Path | str, **update: Any) -> str:
    params = section(model, **update)
    with pytest.raises(ValueError) as caught:
        load_model(params, load_tokenizer(params))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(model), "MODEL")


@pytest.fixture
def folder(tiny_bloom_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bloom_folder, tmp_path / "copy"))


def request(text: str) -> Request:
    return Request("c", 0, "", text, temperature=0.0, top_p=1.0, seed=0, max_new_tokens=4)


def test_a_folder_is_loaded_without_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", connect)
    model = LocalModel(section(folder))
    [completion] = model.complete([request("[Input]: rock\n[Output]:")])
    assert completion.finish in ("stop", "length")
    assert len(model.tokens("[Input]: rock")) > 2
    assert model.shared_tokens([request("ab")]) == (1, 2, 2)


@pytest.mark.parametrize("model", ["/nowhere/model", "./nowhere", "a/b/c"])
def test_a_missing_folder_is_not_asked_of_the_hub(model: str) -> None:
    assert refusal(model) == "captioning.model: 'MODEL' there is no such folder"


def test_a_file_is_not_a_model(folder: Path) -> None:
    assert "is a file; give the folder" in refusal(folder / "config.json")


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def configure(**update: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | update))

    return change


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def truncate_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def drop_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.1.mlp.dense_4h_to_h.bias"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove("tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
        (write("tokenizer.json", "{"), "its tokenizer cannot be loaded"),
        (remove("model.safetensors"), "has no weights (*.safetensors)"),
        (pickle_weights, "has pickled weights only (pytorch_model.bin), which can run code; convert"),
        (truncate_weights, "its weights cannot be loaded"),
        (write("model.safetensors", "hello"), "its weights cannot be loaded"),
        (drop_a_tensor, "its weights lack 1 of the model's tensors, for one transformer.h.1.mlp.dense_4h_to_h.bias"),
        (configure(hidden_size=64), "its weights cannot be loaded"),
        (remove("config.json"), "has no config.json"),
        (write("config.json", '{"model_ty'), "cannot be loaded"),
        (configure(model_type="wobble"), "model type `wobble`"),
        (configure(architectures=["BloomForTokenClassification"]), "is a BloomForTokenClassification, not a causal"),
    ],
)
def test_a_damaged_folder_is_told_apart(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder)
    message = refusal(folder)
    assert message.startswith("captioning.model: 'MODEL' ") and words in message


def test_other_architectures_are_refused(tiny_tokenizer: Any, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM, MambaConfig, MambaForCausalLM, MptConfig, MptForCausalLM

    bert = BertConfig(vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    models = {
        "is a BertForMaskedLM, not a causal language model": BertForMaskedLM(bert),
        "other layers than full attention": MambaForCausalLM(
            MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=1)
        ),
        "cannot be told its tokens' positions": MptForCausalLM(
            MptConfig(vocab_size=400, d_model=32, n_layers=1, n_heads=2)
        ),
    }
    for at, (words, model) in enumerate(models.items()):
        model.save_pretrained(tmp_path / str(at))
        tiny_tokenizer.save_pretrained(tmp_path / str(at))
        assert words in refusal(tmp_path / str(at))


def test_code_in_a_models_folder_never_runs(folder: Path) -> None:
    configure(auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})(folder)
    marker = folder / "ran"
    write("evil.py", f"open({str(marker)!r}, 'w')\nclass Config: ...\nclass Model: ...\n")(folder)
    params = section(folder)
    load_model(params, load_tokenizer(params))
    assert not marker.exists()


def test_a_tokenizer_of_another_model_is_refused(folder: Path, tiny_model: Callable[..., Any]) -> None:
    tiny_model("bloom", vocab_size=100).save_pretrained(folder)
    assert "tokens, more than the model knows" in refusal(folder)


def test_precision_context_and_missing_special_tokens(
    folder: Path, tiny_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    plain = {key: value for key, value in config.items() if key not in ("pad_token", "eos_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps(plain))
    params = section(folder, dtype="bfloat16")
    tokenizer = load_tokenizer(params)
    model = load_model(params, tokenizer)
    assert tokenizer.pad_token is None and tokenizer.eos_token is None
    assert model.dtype == torch.bfloat16 and context_length(model) is None  # ALiBi
    [completion] = LocalModel(params).complete([request("[Output]:")])
    assert completion.finish in ("stop", "length")
    assert context_length(tiny_model("gpt2")) == context_length(tiny_model("llama")) == 512


@pytest.mark.parametrize("device_map", ["auto", "balanced"])
def test_a_spread_model_answers_the_same(folder: Path, device_map: str) -> None:
    pytest.importorskip("accelerate", reason="spreading a model needs accelerate (extra hf-gpu)")
    asked = [request("[Input]: rock\n[Output]:"), request("[Output]:")]
    spread = LocalModel(section(folder, device_map=device_map)).complete(asked)
    assert {one.text for one in spread} == {one.text for one in LocalModel(section(folder)).complete(asked)}


def test_what_a_setting_needs_is_said_before_weights_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"captioning\.device_map: auto needs accelerate; .*needledrop\[hf-gpu\]"):
        load_model(section(folder, device_map="auto"), None)
    with pytest.raises(ValueError, match=r"captioning\.quantisation: nf4 needs bitsandbytes"):
        load_model(section(folder, quantisation="nf4"), None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"captioning\.quantisation: int8 needs a GPU with CUDA"):
        load_model(section(folder, quantisation="int8"), None)


def test_quantisation_is_bitsandbytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.captioning.load import _placement

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    eight = _placement(section(folder, quantisation="int8"))
    four = _placement(section(folder, quantisation="nf4", device_map="auto", dtype="bfloat16"))
    assert eight["device_map"] == {"": 0} and eight["quantization_config"].load_in_8bit
    assert four["device_map"] == "auto" and four["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert four["quantization_config"].bnb_4bit_compute_dtype == torch.bfloat16


def test_the_identity_covers_files_and_settings(folder: Path) -> None:
    def identity(**update: Any) -> str:
        return LocalModel(section(folder, **update)).identity

    first = identity()
    assert first == identity(batch_size=9)  # decides no answer
    changed = {first, identity(revision="2"), identity(dtype="float16"), identity(quantisation="int8")}
    (folder / "README.md").write_text("about the model")
    assert identity() == first
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.bias"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    changed.add(identity())
    write("tokenizer_config.json", "{}")(folder)
    changed.add(identity())
    assert len(changed) == 6
    named = LocalModel(section("bigscience/bloom", revision="abc")).identity
    assert named.startswith("bigscience/bloom@abc float32 none code:")


def test_all_that_answers_is_covered(folder: Path) -> None:
    listed = covered(LocalModel)
    used = ran(lambda: list(LocalModel(section(folder)).complete([request("[Input]: rock")])), listed)
    assert {"components.captioning.engine:Engine", "components.captioning.load:load_model"} <= used
    assert used <= set(listed)
