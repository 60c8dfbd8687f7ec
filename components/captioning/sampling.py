"""How the next token is chosen, so that it depends on its own request alone.

Shapes: B rows, V words of the vocabulary.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.captioning.completion import Request


def uniform(seed: int, step: int) -> float:
    """Return the number in [0, 1) that decides a request's token ``step``.

    Counted, not drawn: it depends on seed and step alone, so neither the batch nor the device nor a
    restart in the middle of a text can change it.
    """
    digest = hashlib.sha256(f"{seed}:{step}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


@dataclass(frozen=True)
class Chance:
    """The rows of a batch that are sampled, and how; the others take the likeliest token."""

    rows: Tensor  # (n,) numbers of rows
    temperature: Tensor  # (n, 1)
    top_p: Tensor  # (n, 1)
    uniforms: Tensor  # (steps, n, 1)


def chance(requests: Sequence[Request], written: Sequence[int], steps: int, device: torch.device) -> Chance | None:
    """Return what the next ``steps`` tokens need; None where every row is greedy.

    Args:
        requests: of the B rows.
        written: tokens that each row has so far.
        steps: tokens to come.
        device: where the logits are.
    """
    rows = [row for row, request in enumerate(requests) if request.temperature > 0]
    if not rows:
        return None

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)[:, None]

    uniforms = [[uniform(requests[row].seed, written[row] + step) for row in rows] for step in range(steps)]
    return Chance(
        torch.tensor(rows, device=device),
        column([requests[row].temperature for row in rows]),
        column([requests[row].top_p for row in rows]),
        torch.tensor(uniforms, dtype=torch.float64, device=device)[:, :, None],
    )


def choose(logits: Tensor, sampled: Chance | None, step: int) -> tuple[Tensor, Tensor]:
    """Return the next token of each row (B,), and whether its logits (B, V) could be used at all (B,)."""
    tokens = logits.argmax(-1)
    usable = logits.gather(-1, tokens[:, None])[:, 0].isfinite()  # argmax stops at a NaN
    if sampled is not None:
        drawn = draw(logits[sampled.rows], sampled.temperature, sampled.top_p, sampled.uniforms[step])
        tokens = tokens.index_copy(0, sampled.rows, drawn)
    return tokens, usable


def draw(logits: Tensor, temperature: Tensor, top_p: Tensor, uniforms: Tensor) -> Tensor:
    """Return one token per row (n,): the inverse distribution function of the nucleus.

    The nucleus is the fewest likeliest tokens whose probabilities reach ``top_p`` (Holtzman et al., 2020).
    In float64: the last bits of a batch's arithmetic then move a border between two tokens by next to
    nothing, and only a number that falls just there could tell.

    Args:
        logits: (n, V).
        temperature: (n, 1), above 0.
        top_p: (n, 1), in (0, 1].
        uniforms: (n, 1), in [0, 1).
    """
    probabilities = torch.softmax(logits.double() / temperature, -1)
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    reached = ordered.cumsum(-1)
    members = reached - ordered < top_p  # the first one is always in
    mass = (ordered * members).sum(-1, keepdim=True)
    place = (reached <= uniforms * mass).sum(-1, keepdim=True)
    last = members.sum(-1, keepdim=True) - 1  # rounding must not lead out of the nucleus
    return tokens.gather(-1, place.minimum(last))[:, 0]
