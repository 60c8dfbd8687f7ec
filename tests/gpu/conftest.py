"""What needs a GPU runs where one is asked for and there."""

import os
from pathlib import Path

import pytest
import torch

from tests.conftest import GPU_ASKED
from tests.training import corpus_look_alike


@pytest.fixture(scope="session", autouse=True)
def gpu() -> torch.device:
    """The GPU, or a skip."""
    if GPU_ASKED not in os.environ:
        pytest.skip(f"needs a GPU: `make test-gpu`, which sets {GPU_ASKED}")
    if not torch.cuda.is_available():
        pytest.skip("no GPU is visible here")
    return torch.device("cuda")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A look-alike corpus with more clips than the usual one."""
    root = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_look_alike, "SIZES", {"train": 16384, "val": 64, "test": 32})
        corpus_look_alike.write_corpus(root)
    return root
