"""The objectives against numbers computed by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from components.encoder.losses import Pair, build_loss
from tests.encoder.objectives import ALL_TERMS, HARD, SIGMOID, identities, pair, section

# Cosines 1, 0 / 0.6, 0.8.
QUERY, MUSIC = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
KINDS = pytest.mark.parametrize("kind", [{}, HARD, SIGMOID], ids=["infonce", "hard negatives", "sigmoid"])


def loss_of(query: Tensor, music: Tensor, tracks: list[int], **changes: Any) -> Tensor:
    """The loss of one term, fused-music."""
    return build_loss(section(**changes))({"fused-music": pair(query, music)}, identities(tracks))["loss"]


def by_hand(logits: Tensor, negatives: dict[int, list[int]], of: Callable[[float, list[float]], float]) -> float:
    """The mean over both directions of ``of(own logit, logits of the negatives)``."""
    found = [
        of(float(matrix[row, row]), [float(matrix[row, column]) for column in columns])
        for matrix in (logits.double(), logits.double().T)
        for row, columns in negatives.items()
    ]
    return sum(found) / len(found)


def cross_entropy(own: float, others: list[float]) -> float:
    return math.log(1 + sum(math.exp(other - own) for other in others))


def some(count: int, dims: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return normalize(torch.randn(count, dims), dim=1), normalize(torch.randn(count, dims), dim=1)


# -- InfoNCE -------------------------------------------------------------------------------------


def test_two_by_two_by_hand() -> None:
    # Over temperature 0.5: logits 2, 0 / 1.2, 1.6.
    rows = math.log(1 + math.exp(0 - 2)) + math.log(1 + math.exp(1.2 - 1.6))
    columns = math.log(1 + math.exp(1.2 - 2)) + math.log(1 + math.exp(0 - 1.6))
    assert loss_of(QUERY, MUSIC, [0, 1]).item() == pytest.approx((rows / 2 + columns / 2) / 2, abs=1e-6)


def test_a_constant_model_scores_log_batch() -> None:
    same = torch.ones(8, 2) / math.sqrt(2)
    for beta in (0.0, 1.5):  # the weights of hard negatives have mean 1
        assert loss_of(same, same, list(range(8)), hard_negatives=beta).item() == pytest.approx(math.log(8), abs=1e-6)


def test_small_temperature_does_not_overflow() -> None:
    tiny = {"initial_temperature": 0.0001, "lowest_temperature": 0.0001}
    for rows in (None, 3):
        value = loss_of(torch.eye(4), torch.eye(4).flip(0), [0, 1, 2, 3], stream_rows=rows, **tiny)
        assert value.item() == pytest.approx(1e4, rel=1e-3)


def test_hard_negatives_by_hand() -> None:
    query, music = some(4)
    beta = 0.8

    def weighted(own: float, others: list[float]) -> float:
        raw = [math.exp(beta * other) for other in others]
        weights = [len(others) * value / sum(raw) for value in raw]
        return math.log(1 + sum(w * math.exp(other - own) for w, other in zip(weights, others, strict=True)))

    negatives = {0: [2, 3], 1: [2, 3], 2: [0, 1, 3], 3: [0, 1, 2]}  # 0 and 1 are one track
    expected = by_hand(2.0 * query @ music.T, negatives, weighted)
    assert loss_of(query, music, [4, 4, 9, 7], hard_negatives=beta).item() == pytest.approx(expected, abs=1e-6)


def test_hard_weighting_pushes_harder_on_the_hardest_negative() -> None:
    # Queries are orthogonal, so music 1 meets query 0 in its first coordinate alone: cosine 0.8, others 0.
    query, music = torch.eye(3), torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    pushes = []
    for beta in (0.0, 0.5, 2.0):
        leaf = music.clone().requires_grad_()
        loss_of(query, leaf, [0, 1, 2], hard_negatives=beta).backward()
        assert leaf.grad is not None
        pushes.append(float(leaf.grad[1, 0]))
    assert 0 < pushes[0] < pushes[1] < pushes[2]


# -- sigmoid -------------------------------------------------------------------------------------


def test_sigmoid_two_by_two_by_hand() -> None:
    # Logits 2, 0 / 1.2, 1.6 plus bias -2: 0, -2 / -0.8, -0.4; the diagonal should be high, the rest low.
    terms = [math.log(1 + math.exp(x)) for x in (-0.0, -2.0, -0.8, 0.4)]
    assert loss_of(QUERY, MUSIC, [0, 1], **SIGMOID).item() == pytest.approx(sum(terms) / 2, abs=1e-6)


def test_sigmoid_learns_scale_and_bias() -> None:
    objective = build_loss(section(**SIGMOID))
    objective({"fused-music": pair(*some(5))}, identities(list(range(5))))["loss"].backward()
    assert {name: bool(p.grad != 0) for name, p in objective.named_parameters()} == {"log_scale": True, "bias": True}


# -- false negatives -----------------------------------------------------------------------------


def test_another_clip_of_the_same_track_is_no_negative() -> None:
    query, music = some(3)
    expected = by_hand(2.0 * query @ music.T, {0: [2], 1: [2], 2: [0, 1]}, cross_entropy)
    assert loss_of(query, music, [4, 4, 9]).item() == pytest.approx(expected, abs=1e-6)


def test_masks_are_what_the_section_asks_for() -> None:
    query, music = some(4)
    sound = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.1], [0.0, 0.0]])  # 0 and 2 sound alike; 3 is all zeros
    same = identities([0, 0, 1, 2], [5, 6, 7, 6], sound)  # a track: 0, 1; an artist: 1, 3
    everyone = {0: [1, 2, 3], 1: [0, 2, 3], 2: [0, 1, 3], 3: [0, 1, 2]}
    for mask, negatives in (
        ((False, False, None), everyone),
        ((True, False, None), {0: [2, 3], 1: [2, 3], 2: [0, 1, 3], 3: [0, 1, 2]}),
        ((False, True, None), {0: [1, 2, 3], 1: [0, 2], 2: [0, 1, 3], 3: [0, 2]}),
        ((False, False, 0.99), {0: [1, 3], 1: [0, 2, 3], 2: [1, 3], 3: [0, 1, 2]}),
        ((False, False, 1.0), everyone),
        ((True, True, 0.99), {0: [3], 1: [2], 2: [1, 3], 3: [0, 2]}),
    ):
        asked = dict(zip(("same_track", "same_artist", "near_duplicates"), mask, strict=True))
        objective = build_loss(section(mask=asked))
        found = objective({"fused-music": pair(query, music)}, same)["loss"].item()
        assert found == pytest.approx(by_hand(2.0 * query @ music.T, negatives, cross_entropy), abs=1e-6), mask


@KINDS
@pytest.mark.parametrize("rows", [None, 2])
def test_one_track_only_leaves_nothing_to_tell_apart(kind: dict[str, Any], rows: int | None) -> None:
    query = torch.eye(3).requires_grad_()
    loss = loss_of(query, torch.eye(3), [0, 0, 0], stream_rows=rows, **kind)
    loss.backward()
    # InfoNCE asks which of one; the sigmoid loss still wants the match to be one: logit 2 - 2.
    assert loss.item() == pytest.approx(math.log(2) if kind is SIGMOID else 0.0, abs=1e-6)
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


# -- terms and absent sides ----------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_sample_without_both_sides_is_neither_row_nor_column(
    kind: dict[str, Any], rows: int | None, fixed: bool
) -> None:
    query, music = some(5)
    present = torch.tensor([True, False, True, True, False])
    query[1] = music[4] = float("nan")  # whatever stands there
    sides = [side.requires_grad_() for side in (query, music)]
    objective = build_loss(section(stream_rows=rows, **kind))
    objective.fixed_shapes = fixed
    found = objective({"fused-music": Pair(query, music, present)}, identities([0, 1, 2, 2, 1]))["loss"]
    got = torch.autograd.grad(found, sides)
    there = objective({"fused-music": pair(query[present], music[present])}, identities([0, 2, 2]))["loss"]
    expected = torch.autograd.grad(there, sides)
    assert found.item() == pytest.approx(there.item(), abs=1e-6)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@KINDS
@pytest.mark.parametrize("masked", [False, True])
def test_with_fixed_shapes_nothing_depends_on_what_the_data_says(kind: dict[str, Any], masked: bool) -> None:
    mask = {"same_track": True, "same_artist": True, "near_duplicates": 0.8 if masked else None}
    objective = build_loss(section(mask=mask, **kind))
    objective.fixed_shapes = True
    torch._dynamo.reset()
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    for present in ([True, True, False, True], [False, True, False, True]):  # one graph for both
        query, music = some(4)
        sound = torch.arange(8.0).reshape(4, 2)
        given = {"fused-music": Pair(query, music, torch.tensor(present))}, identities([0, 1, 2, 2], None, sound)
        with torch._dynamo.config.patch(error_on_recompile=True):
            found = compiled(*given)["loss"]
        assert found.item() == pytest.approx(objective(*given)["loss"].item(), abs=1e-6)


@KINDS
@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_term_that_nobody_has_is_zero_without_gradient(kind: dict[str, Any], rows: int | None, fixed: bool) -> None:
    query, music = (side.requires_grad_() for side in some(3))
    objective = build_loss(section(stream_rows=rows, **kind))
    objective.fixed_shapes = fixed
    loss = objective({"fused-music": Pair(query, music, torch.zeros(3).bool())}, identities([0, 1, 2]))["loss"]
    loss.backward()
    assert loss.item() == 0.0
    for leaf in (query, music, objective.log_scale):
        assert leaf.grad is not None
        assert not leaf.grad.any()


def test_the_total_is_the_weighted_sum_of_the_terms_asked_for() -> None:
    weights = {**ALL_TERMS, "text-music": 0.0}
    torch.manual_seed(2)
    pairs = {term: pair(*(normalize(torch.randn(4, 3), dim=1) for _ in "qt")) for term in weights}
    found = build_loss(section(terms=weights))(pairs, identities([0, 1, 2, 3]))
    assert set(found) == {"loss", "fused-music", "video-music", "video-text"}
    for term in ("fused-music", "video-music", "video-text"):
        alone = loss_of(pairs[term].query, pairs[term].target, [0, 1, 2, 3])
        assert found[term].item() == pytest.approx(alone.item(), abs=1e-6)
    expected = sum(weights[term] * found[term].item() for term in weights if term in found)
    assert found["loss"].item() == pytest.approx(expected, abs=1e-6)


# -- temperature and precision -------------------------------------------------------------------


def test_temperature_is_clamped_where_it_is_used() -> None:
    loss = build_loss(section())
    assert loss.scale().item() == pytest.approx(2.0)
    with torch.no_grad():
        loss.log_scale.fill_(50.0)
    assert loss.scale().item() == pytest.approx(10.0)
    with torch.no_grad():
        loss.log_scale.fill_(-50.0)
    assert loss.scale().item() == pytest.approx(1.0)


@pytest.mark.parametrize("beyond", [0.5, -0.5])
def test_temperature_comes_back_from_beyond_the_border(beyond: float) -> None:
    # At either border the loss asks for the other direction.
    objective = build_loss(section())
    border = objective.highest if beyond > 0 else 0.0
    with torch.no_grad():
        objective.log_scale.fill_(border + beyond)
    query = torch.eye(4)
    music = query.flip(0) if beyond > 0 else query  # all wrong: a lower scale; all right: a higher one
    objective({"fused-music": pair(query, music)}, identities([0, 1, 2, 3]))["loss"].backward()
    assert objective.log_scale.item() == pytest.approx(border)
    assert objective.log_scale.grad is not None
    assert objective.log_scale.grad.item() * beyond > 0


@KINDS
def test_the_loss_is_in_float32_whatever_the_model_runs_in(kind: dict[str, Any]) -> None:
    query, music = (side.bfloat16() for side in some(6))
    exact = loss_of(query.float(), music.float(), list(range(6)), **kind)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(query, music, list(range(6)), **kind)
    assert found.dtype == torch.float32
    assert found.item() == exact.item()
