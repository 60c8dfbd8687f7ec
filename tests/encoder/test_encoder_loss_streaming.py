"""Sums by blocks of rows equal sums over the stored matrix, in values and gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from components.encoder.losses import NONE, Identities, Negatives, log_sum_exps, softplus_sum
from components.encoder.params import MaskSection

DIMS = 4


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    """Rows that are a run of the columns, any masks, blocks from one row to more than all."""
    columns = draw(st.integers(1, 24))
    own = draw(st.integers(0, columns))
    return {
        "columns": columns,
        "own": own,
        "rows": draw(st.integers(0, columns - own)),
        "block_rows": draw(st.integers(1, 30)),
        "scale": draw(st.sampled_from([0.0, 1.0, 14.0, 75.0, 100.0, 1000.0])),
        "tracks": draw(st.integers(1, 2 * columns)),
        "mask": draw(st.tuples(st.booleans(), st.booleans(), st.sampled_from([None, 0.5, 1.0]))),
        "seed": draw(st.integers(0, 2**31)),
    }


def inputs(
    *, columns: int, own: int, rows: int, scale: float, tracks: int, mask: tuple[bool, bool, float | None],
    seed: int = 0, dtype: torch.dtype = torch.float32, **_: Any,
) -> tuple[Tensor, Tensor, Tensor, Negatives]:  # fmt: skip
    torch.manual_seed(seed)
    query, target = (normalize(torch.randn(n, DIMS, dtype=dtype), dim=1).requires_grad_() for n in (rows, columns))
    same = Identities(*torch.randint(tracks, (2, columns)), torch.randn(columns, 2))
    asked = MaskSection(same_track=mask[0], same_artist=mask[1], near_duplicates=mask[2])
    return query, target, torch.tensor(scale, dtype=dtype, requires_grad=True), Negatives(asked, same, own)


def assert_equal(found: Tensor, expected: Tensor, scale: float) -> None:
    """Equal to 1e-6 of the largest value, logit or 1: a sum can cancel, but its logits were rounded at their own size."""
    found, expected = found.detach(), expected.detach()
    assert torch.isfinite(found).all()
    # A column without rows at all has no sum; both forms of "nothing" are far below any logit.
    found, expected = found.clamp(min=NONE), expected.clamp(min=NONE)
    there = expected > NONE / 2
    assert torch.equal(there, found > NONE / 2)
    largest = max(1.0, scale, float(expected[there].abs().max())) if there.any() else 1.0
    torch.testing.assert_close(found[there], expected[there], rtol=0, atol=1e-6 * largest)


@settings(max_examples=80, deadline=None)
@given(problems())
def test_log_sum_exps_equal_the_stored_matrix(problem: dict[str, Any]) -> None:
    leaves: list[list[Tensor]] = []
    for rows in (None, problem["block_rows"]):
        query, target, scale, negatives = inputs(**problem)
        found = log_sum_exps(query, target, scale, negatives, rows)
        # What a loss says about a sum fades where there is none, as softplus's gradient does.
        loss = sum((torch.rand(len(x)) * x.clamp(min=-1e6)).sum() / problem["columns"] for x in found)
        torch.as_tensor(loss).backward()
        leaves.append([*found, *(torch.as_tensor(leaf.grad) for leaf in (query, target, scale))])
    for expected, streamed in zip(*leaves, strict=True):
        assert_equal(streamed, expected, problem["scale"])


@settings(max_examples=50, deadline=None)
@given(problems(), st.sampled_from([-10.0, 0.0, 3.0]))
def test_softplus_sum_equals_the_stored_matrix(problem: dict[str, Any], start: float) -> None:
    leaves: list[list[Tensor]] = []
    for rows in (None, problem["block_rows"]):
        query, target, scale, negatives = inputs(**problem)
        bias = torch.tensor(start, requires_grad=True)
        found = softplus_sum(query, target, scale, bias, negatives, rows)
        (found / problem["columns"]).backward()
        leaves.append([found, *(torch.as_tensor(leaf.grad) for leaf in (query, target, scale, bias))])
    for expected, streamed in zip(*leaves, strict=True):
        assert_equal(streamed, expected, problem["scale"])


@pytest.mark.parametrize("scale", [3.0, 100.0])  # with and without a search for maxima
def test_gradients_are_those_of_finite_differences(scale: float) -> None:
    *leaves, negatives = inputs(
        columns=7, own=2, rows=4, scale=scale, tracks=5, mask=(True, False, None), dtype=torch.float64
    )
    assert torch.autograd.gradcheck(
        lambda *given: [x[x > NONE / 2] for x in log_sum_exps(*given, negatives, 3)], leaves
    )
    bias = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: softplus_sum(*given, negatives, 3), [*leaves, bias])


@contextmanager
def largest_tensor() -> Iterator[list[int]]:
    """Collect the number of elements of every tensor that an operation makes."""
    made: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            made.extend(x.numel() for x in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(x, Tensor))
            return out

    with Watch():
        yield made


@pytest.mark.parametrize("scale", [3.0, 100.0])
@pytest.mark.parametrize("mask", [(False, False, None), (True, True, 0.9)])
def test_no_more_of_the_matrix_is_held_than_asked_for(scale: float, mask: tuple[bool, bool, float | None]) -> None:
    query, target, factor, negatives = inputs(columns=300, own=0, rows=300, scale=scale, tracks=200, mask=mask)
    with largest_tensor() as made:
        row, column = log_sum_exps(query, target, factor, negatives, 8)
        (row.sum() + column.sum()).backward()
        softplus_sum(query, target, factor, torch.tensor(0.0), negatives, 8).backward()
    assert max(made) == 8 * 300
    with largest_tensor() as made:
        log_sum_exps(query, target, factor, negatives)
    assert max(made) == 300 * 300
