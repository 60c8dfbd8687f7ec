"""What must hold of the model whatever its weights are."""

from typing import Any

import numpy as np
import pytest
import torch

from components.encoder.losses import Identities
from components.encoder.model import TrimodalModel
from components.encoder.params import TERMS, EncoderSection
from components.encoder.towers import mean_of_valid
from components.modalities import MODALITIES, MUSIC, TEXT, VIDEO
from components.settings import ParamsError, parse_section

from .sections import ALL_TERMS, LOSS, PLAIN

DIMS = {VIDEO: 7, TEXT: 11, MUSIC: 9}


def make_model(**changes: object) -> TrimodalModel:
    torch.manual_seed(0)
    return TrimodalModel(EncoderSection.model_validate(PLAIN | changes), DIMS).eval()


def make_batch(clips: int = 6, segments: int = 5) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    lengths = torch.arange(clips) % segments + 1
    mask = torch.arange(segments)[None, :] < lengths[:, None]
    return {m: (torch.randn(clips, segments, DIMS[m]) * mask[:, :, None], mask) for m in MODALITIES}


def test_a_mean_is_over_what_is_valid() -> None:
    values = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]], [[4.0, 4.0], [torch.nan, torch.inf], [0.0, 0.0]]])
    values = torch.cat([values, torch.full((1, 3, 2), torch.nan)])
    valid = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert mean_of_valid(values, valid).tolist() == [[2.0, 4.0], [4.0, 4.0], [0.0, 0.0]]


FUSIONS = [
    {"kind": "pooled-transformer", "layers": 2},
    {"kind": "concat-transformer", "layers": 2},
    {"kind": "cross-attention", "layers": 2},
    {"kind": "gated"},
    {"kind": "mean"},
]
WHOLE_SEQUENCES = {"concat-transformer", "cross-attention"}
SHAPES: list[dict[str, object]] = [
    *({"fusion": fusion} for fusion in FUSIONS),
    *({"pooling": pooling} for pooling in ("cls", "attention")),
    *({"positions": positions} for positions in ({"kind": "learned", "longest": 9}, {"kind": "none"})),
    {"layers": 0},
]


def embedded(model: TrimodalModel, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    pair = model(batch)["fused-music"]
    return pair.query, pair.target


def identities(clips: int = 6) -> Identities:
    return Identities(torch.arange(clips), torch.arange(clips), None)


@pytest.mark.parametrize("shape", SHAPES)
def test_embeddings_are_unit_vectors(shape: dict[str, object]) -> None:
    pairs = make_model(**shape, loss=ALL_TERMS)(make_batch())
    assert set(pairs) == set(TERMS)
    for pair in pairs.values():
        assert pair.present.all()
        for embedding in (pair.query, pair.target):
            assert embedding.shape == (6, 12)
            torch.testing.assert_close(embedding.norm(dim=1), torch.ones(6))


def test_terms_are_pairs_of_the_queries_they_are_named_after() -> None:
    model, batch = make_model(loss=ALL_TERMS), make_batch()
    pairs = model(batch)
    seen, read = model.query({VIDEO: batch[VIDEO]}), model.query({TEXT: batch[TEXT]})
    for term, query, target in (
        ("fused-music", model.query(batch), model.music(batch[MUSIC])),
        ("video-music", seen, model.music(batch[MUSIC])),
        ("text-music", read, model.music(batch[MUSIC])),
        ("video-text", seen, read),
    ):
        torch.testing.assert_close(pairs[term].query, query, atol=2e-6, rtol=0)
        torch.testing.assert_close(pairs[term].target, target, atol=2e-6, rtol=0)
    assert set(make_model()(batch)) == {"fused-music"}


def test_a_pair_is_present_where_both_its_sides_are() -> None:
    model, batch = make_model(loss=ALL_TERMS), make_batch()
    for modality, row in ((VIDEO, 1), (TEXT, 2), (MUSIC, 3)):
        x, mask = batch[modality]
        batch[modality] = (x, mask & (torch.arange(6) != row)[:, None])
    present = {term: pair.present.tolist() for term, pair in model(batch).items()}
    expected = {"fused-music": {3}, "video-music": {1, 3}, "text-music": {2, 3}, "video-text": {1, 2}}
    assert present == {term: [row not in lacking for row in range(6)] for term, lacking in expected.items()}


def test_a_sequence_longer_than_the_learned_positions_is_refused() -> None:
    model = make_model(positions={"kind": "learned", "longest": 4})
    with pytest.raises(ValueError, match=r"has 5 segments, encoder\.positions\.longest is 4"):
        model.music(make_batch()[MUSIC])


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_does_not_change_an_embedding(shape: dict[str, object]) -> None:
    model, batch = make_model(**shape), make_batch()
    padded = {}
    for m, (x, mask) in batch.items():
        # Padding holds rubbish on purpose: only the mask may decide.
        padded[m] = (
            torch.cat([x, torch.full((6, 4, DIMS[m]), 1e3)], dim=1),
            torch.cat([mask, mask.new_zeros(6, 4)], dim=1),
        )
    for a, b in zip(embedded(model, batch), embedded(model, padded), strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)


def test_the_rest_of_the_batch_does_not_change_an_embedding() -> None:
    model, batch = make_model(), make_batch()
    together = embedded(model, batch)
    for row in range(6):
        alone = embedded(model, {m: (x[row : row + 1], mask[row : row + 1]) for m, (x, mask) in batch.items()})
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[row : row + 1], b, atol=2e-6, rtol=0)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_dropped_text_is_no_text(fusion: dict[str, object]) -> None:
    model, batch = make_model(fusion=fusion), make_batch()
    text, mask = batch[TEXT]
    dropped = model.query({VIDEO: batch[VIDEO], TEXT: (text, torch.zeros_like(mask))})
    alone = model.query({VIDEO: batch[VIDEO]})
    # Fusions of whole sequences add up a longer row of zeros, so there the last bit may differ.
    rounding = 2e-6 if fusion["kind"] in WHOLE_SEQUENCES else 0
    torch.testing.assert_close(dropped, alone, atol=rounding, rtol=0)


def test_dropping_some_texts_leaves_the_others_alone() -> None:
    model, batch = make_model(), make_batch()
    text, mask = batch[TEXT]
    partly = mask.clone()
    partly[::2] = False
    mixed = model.query({VIDEO: batch[VIDEO], TEXT: (text, partly)})
    torch.testing.assert_close(mixed[1::2], model.query(batch)[1::2], atol=2e-6, rtol=0)
    torch.testing.assert_close(mixed[::2], model.query({VIDEO: batch[VIDEO]})[::2], atol=2e-6, rtol=0)


def test_each_modality_alone_makes_a_query() -> None:
    model, batch = make_model(), make_batch()
    seen, read, both = (model.query({m: batch[m] for m in given}) for given in ((VIDEO,), (TEXT,), (VIDEO, TEXT)))
    assert not torch.allclose(seen, read)
    assert not torch.allclose(seen, both)
    with pytest.raises(ValueError, match="neither"):
        model.query({MUSIC: batch[MUSIC]})


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_reaches_every_weight(shape: dict[str, object]) -> None:
    model, batch = make_model(**shape).train(), make_batch()
    model.loss(model(batch), identities())["loss"].backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_gradient_is_finite_when_samples_lack_a_modality() -> None:
    model, batch = make_model().train(), make_batch()
    mask = batch[TEXT][1].clone()
    mask[:3] = False
    batch[TEXT] = (batch[TEXT][0].requires_grad_(), mask)
    model.loss(model(batch), identities())["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert batch[TEXT][0].grad is not None
    assert not batch[TEXT][0].grad[:3].any()


def test_order_of_segments_matters_but_only_as_position() -> None:
    model, batch = make_model(), make_batch()
    x, mask = batch[MUSIC][0].clone(), torch.ones_like(batch[MUSIC][1])
    assert not torch.allclose(model.music((x, mask)), model.music((x.flip(1), mask)))


def test_inputs_are_standardised_and_constants_vanish() -> None:
    model, batch = make_model(), make_batch()
    stretch, shift = torch.rand(DIMS[MUSIC]) * 10 + 1, torch.randn(DIMS[MUSIC])
    x, mask = batch[MUSIC]
    before = model.music((x, mask))
    model.towers[MUSIC].standardise.set(shift, stretch)
    torch.testing.assert_close(model.music((x * stretch + shift, mask)), before, atol=1e-5, rtol=0)
    constant = torch.full((DIMS[MUSIC],), 3.0)
    model.towers[MUSIC].standardise.set(constant, torch.zeros(DIMS[MUSIC]))
    assert not model.towers[MUSIC].standardise(constant + 7.0).any()


def test_a_wild_input_is_clipped() -> None:
    model, batch = make_model(), make_batch()
    x, mask = batch[MUSIC]
    assert torch.equal(model.music((x.sign() * 1e4, mask)), model.music((x.sign() * 1e3, mask)))


def test_numpy_in_numpy_out_and_mode_is_restored() -> None:
    model, batch = make_model().train(), make_batch()
    arrays = {m: (x.numpy(), mask.numpy()) for m, (x, mask) in batch.items()}
    query = model.embed_query(video=arrays[VIDEO], text=arrays[TEXT])
    assert query.dtype == np.float32
    assert model.training
    np.testing.assert_array_equal(query, model.eval().query(batch).detach().numpy())
    np.testing.assert_array_equal(model.embed_music(arrays[MUSIC]), model.music(batch[MUSIC]).detach().numpy())
    with pytest.raises(ValueError, match=r"video features have shape .* expects \(clips, segments, 7\)"):
        model.embed_query(video=arrays[TEXT])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "encoder: heads 3 must divide width 16"),
        ({"fusion": {"kind": "magic"}}, "encoder.fusion"),
        ({"width": "wide"}, "encoder.width"),
        ({"widht": 16}, "encoder.widht: unknown key"),
        (
            {"loss": LOSS | {"initial_temperature": 0.001}},
            "loss.initial_temperature 0.001 is below",
        ),
    ],
)
def test_wrong_params_name_the_key(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError) as error:
        parse_section(EncoderSection, "encoder", {"encoder": PLAIN | changes})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
