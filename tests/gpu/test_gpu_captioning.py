"""The captioning engine on a GPU."""

from typing import Any

import torch

from benchmarks.captioning import Setting, engine, one_by_one, prompts, random_bloom, vocabulary


def test_it_writes_there_what_generate_writes_one_by_one(gpu: torch.device) -> None:
    tokenizer: Any = vocabulary(8192)
    model = random_bloom("small", str(gpu), "float32", tokenizer)
    setting = Setting(model, tokenizer, prompts(3, 12, 10), 8, 10)
    found, expected = (method(setting, setting.requests) for method in (engine, one_by_one))
    assert found == expected
    assert len(set(found)) > 1
