"""Linear paths beside the towers: hand-computed cosines, absent modalities, files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from components.encoder.cca import fit_cca
from components.encoder.linear import LinearPaths
from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.encoder.serialise import load_model, save_model
from components.modalities import MODALITIES, MUSIC, TEXT, VIDEO

from .sections import PLAIN

DIMS = {VIDEO: 7, TEXT: 11, MUSIC: 9}
LINEAR = {"kind": "cca", "directions": 4, "share": 0.7}


def make_model() -> TrimodalModel:
    torch.manual_seed(0)
    model = TrimodalModel(EncoderSection.model_validate(PLAIN | {"linear": LINEAR}), DIMS).eval()
    draw = np.random.default_rng(0)
    assert model.linear is not None
    for modality in (VIDEO, TEXT):
        rows = [draw.normal(size=(40, DIMS[m])) for m in (modality, MUSIC)]
        model.linear.set(modality, fit_cca(*rows, 0.1, 0.1, 4), 1.0)
    return model


def make_batch() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    mask = torch.arange(5)[None, :] < torch.tensor([1, 2, 3, 4, 5, 5])[:, None]
    return {m: (torch.randn(6, 5, DIMS[m]), mask) for m in MODALITIES}


def test_cosines_of_towers_and_paths_add_by_their_shares() -> None:
    paths = LinearPaths({VIDEO: 2, TEXT: 2, MUSIC: 2}, directions=2, share=0.75)
    for path in (*paths.of_query.values(), *paths.of_music.values()):
        path.set(torch.zeros(2), torch.eye(2))
    one = torch.ones(1, 1, dtype=torch.bool)
    seen, read, heard = (torch.tensor([[pair]]) for pair in ((1.0, 0.0), (0.0, 2.0), (3.0, 4.0)))
    query, music = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    track = paths.beside(music, {MUSIC: (heard, one)}, music=True)
    asked = {VIDEO: (seen, one), TEXT: (read, one)}
    # Video looks along (1, 0), text along (0, 1), music lies at (0.6, 0.8): cosines 0.6 and 0.8, on average 0.7.
    both = paths.beside(query, asked, music=False) @ track.T
    assert both.item() == pytest.approx(0.25 * 0.6 + 0.75 * 0.7)
    # Of one modality alone, half of music's square length answers.
    alone = paths.beside(query, {TEXT: asked[TEXT]}, music=False) @ track.T
    assert alone.item() == pytest.approx(0.25 * 0.6 + 0.75 * 0.8 / math.sqrt(2))


def test_the_paths_order_music_as_the_cca_does() -> None:
    draw = np.random.default_rng(3)
    factors = draw.normal(size=(50, 3))
    video, music = (factors @ draw.normal(size=(3, d)) + 0.3 * draw.normal(size=(50, d)) for d in (7, 9))
    fitted = fit_cca(video, music, 0.3, 0.1, 4)
    paths = LinearPaths(DIMS, 4, 0.5)
    paths.set(VIDEO, fitted, 2.0)
    one = torch.ones(50, 1, dtype=torch.bool)
    seen, heard = (torch.from_numpy(x[:, None]).float() for x in (video, music))
    found = paths.of_query[VIDEO]((seen, one)) @ paths.of_music[VIDEO]((heard, one)).T
    np.testing.assert_allclose(found.numpy(), fitted.scores(video, music, 2.0), atol=1e-5)


def test_embeddings_are_unit_vectors_of_the_stated_dims() -> None:
    model, batch = make_model(), make_batch()
    assert model.embedding_dims == 12 + 2 * 4
    for embedding in (model.query(batch), model.query({TEXT: batch[TEXT]}), model.music(batch[MUSIC])):
        assert embedding.shape == (6, 20)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(6))


def test_padding_and_dropped_text_do_not_count() -> None:
    model, batch = make_model(), make_batch()
    text, mask = batch[TEXT]
    torch.testing.assert_close(
        model.query({VIDEO: batch[VIDEO], TEXT: (text, torch.zeros_like(mask))}), model.query({VIDEO: batch[VIDEO]})
    )
    rubbish = {m: (x.masked_fill(~shown[:, :, None], torch.nan), shown) for m, (x, shown) in batch.items()}
    assert torch.equal(model.query(rubbish), model.query(batch))


def test_the_objective_sees_the_towers_alone() -> None:
    model, batch = make_model(), make_batch()
    pair = model(batch)["fused-music"]
    assert pair.query.shape == pair.target.shape == (6, 12)
    assert not [name for name, _ in model.named_parameters() if name.startswith("linear.")]


def test_files_keep_the_paths(tmp_path: Path) -> None:
    model, batch = make_model(), make_batch()
    save_model(tmp_path, model, {VIDEO: "v" * 64, TEXT: "t" * 64, MUSIC: "m" * 64})
    loaded = load_model(tmp_path).model
    assert torch.equal(loaded.query(batch), model.query(batch))
    assert loaded.linear is not None and loaded.linear.of_query[VIDEO].weight.abs().sum() > 0
