"""Symmetric InfoNCE against numbers computed by hand."""

import math

import pytest
import torch

from components.encoder.losses import build_loss
from components.encoder.params import InfoNCE

HALF = InfoNCE(kind="infonce", initial_temperature=0.5, lowest_temperature=0.1)


def test_two_by_two_by_hand() -> None:
    # Cosines 1, 0 / 0.6, 0.8 over temperature 0.5: logits 2, 0 / 1.2, 1.6.
    query = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    music = torch.eye(2)
    rows = math.log(1 + math.exp(0 - 2)) + math.log(1 + math.exp(1.2 - 1.6))
    columns = math.log(1 + math.exp(1.2 - 2)) + math.log(1 + math.exp(0 - 1.6))
    loss = build_loss(HALF)(query, music, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((rows / 2 + columns / 2) / 2, abs=1e-6)


def test_another_clip_of_the_same_track_is_no_negative() -> None:
    query = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.9, 0.3], [-0.5, 1.0]]), dim=1)
    music = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.1, 1.0]]), dim=1)
    logits = (2.0 * query @ music.T).double()
    pairs = {0: [2], 1: [2], 2: [0, 1]}  # row -> its true negatives; 0 and 1 are one track
    expected = 0.0
    for matrix in (logits, logits.T):
        for row, negatives in pairs.items():
            expected += math.log(1 + sum(math.exp(matrix[row, c] - matrix[row, row]) for c in negatives)) / 6
    loss = build_loss(HALF)(query, music, torch.tensor([4, 4, 9]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_one_track_only_is_loss_zero_with_finite_gradient() -> None:
    query = torch.eye(3).requires_grad_()
    loss = build_loss(HALF)(query, torch.eye(3), torch.zeros(3, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


def test_a_constant_model_scores_log_batch() -> None:
    same = torch.ones(8, 2) / math.sqrt(2)
    assert build_loss(HALF)(same, same, torch.arange(8)).item() == pytest.approx(math.log(8), abs=1e-6)


def test_temperature_is_clamped_where_it_is_used() -> None:
    loss = build_loss(HALF)
    assert loss.scale().item() == pytest.approx(2.0)
    with torch.no_grad():
        loss.log_scale.fill_(50.0)
    assert loss.scale().item() == pytest.approx(10.0)
    with torch.no_grad():
        loss.log_scale.fill_(-50.0)
    assert loss.scale().item() == pytest.approx(1.0)


def test_small_temperature_does_not_overflow() -> None:
    loss = build_loss(InfoNCE(kind="infonce", initial_temperature=0.0001, lowest_temperature=0.0001))
    value = loss(torch.eye(4), torch.eye(4).flip(0), torch.arange(4))
    assert value.item() == pytest.approx(1e4, rel=1e-3)
