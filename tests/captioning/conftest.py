"""Look-alike language models: two layers, random weights, a byte-level tokenizer of 400 words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXT = "[Input]: GENRES: rock (30.8%); MOODS: sad (40.2%); INSTRUMENTS: piano\n[Output]: A sad rock song with piano.\n"
WORDS = {"vocab_size": 400, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A byte-level BPE that knows the words of prompts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([TEXT] * 4, trainer)
    names = {"pad_token": "<pad>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """Make a model of a kind; weights are large, so that no two words tie."""

    def made(kind: str, **settings: Any) -> Any:
        import torch
        from transformers import (
            BloomConfig,
            BloomForCausalLM,
            GPT2Config,
            GPT2LMHeadModel,
            GPTNeoXConfig,
            GPTNeoXForCausalLM,
            LlamaConfig,
            LlamaForCausalLM,
        )

        torch.manual_seed(0)
        common = {**WORDS, **settings}
        small: dict[str, Any] = {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
            "max_position_embeddings": 512,
        }  # fmt: skip
        match kind:
            case "bloom":
                model: Any = BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, **common))
            case "gpt2":
                model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **common))
            case "gpt_neox":
                model = GPTNeoXForCausalLM(GPTNeoXConfig(**small, **common))
            case _:
                model = LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **small, **common))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.mul_(8.0)
        return model.eval()

    return made


@pytest.fixture(scope="session")
def tiny_bloom_folder(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A BLOOM with its tokenizer, as save_pretrained leaves them."""
    folder = tmp_path_factory.mktemp("tiny-bloom")
    tiny_model("bloom").save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
