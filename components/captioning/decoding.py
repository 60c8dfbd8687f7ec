"""How an answer is written, token by token: which token is next, and whether it was the last.

Both depend on the answer's own request alone. Shapes: B rows, V words of the vocabulary.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.captioning.completion import LENGTH, STOP, Request

_NEXT_INPUT = re.compile(r"\[\s*input\s*\]", re.IGNORECASE)
_TAIL = 32  # characters that a marker may be spread over


def uniform(seed: int, step: int) -> float:
    """Return the number in [0, 1) that decides a request's token ``step``.

    Counted, not drawn: it depends on seed and step alone, so neither the batch nor the device nor a
    restart in the middle of a text can change it.
    """
    digest = hashlib.sha256(f"{seed}:{step}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


@dataclass(frozen=True)
class Sampling:
    """The rows of a batch that are sampled, and how; the others take the likeliest token."""

    rows: Tensor  # (n,) numbers of rows
    temperature: Tensor  # (n, 1)
    top_p: Tensor  # (n, 1)
    uniforms: Tensor  # (steps, n, 1)


def sampling_of(
    requests: Sequence[Request], written: Sequence[int], steps: int, device: torch.device
) -> Sampling | None:
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
    return Sampling(
        torch.tensor(rows, device=device),
        column([requests[row].temperature for row in rows]),
        column([requests[row].top_p for row in rows]),
        torch.tensor(uniforms, dtype=torch.float64, device=device)[:, :, None],
    )


def choose(logits: Tensor, sampled: Sampling | None, step: int) -> tuple[Tensor, Tensor]:
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


class Pieces:
    """The text of single tokens, and of whole answers."""

    def __init__(self, tokenizer: Any, ends: frozenset[int]) -> None:
        """Remember the tokenizer, and the tokens that end a text by themselves."""
        self._tokenizer, self.ends = tokenizer, ends
        self._known: dict[int, str] = {}

    def __getitem__(self, token: int) -> str:
        if token not in self._known:
            self._known[token] = self.text([token])
        return self._known[token]

    def text(self, tokens: list[int]) -> str:
        """Return the tokens as text, special ones left out."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class Answer:
    """The tokens written so far after one prompt."""

    def __init__(self, pieces: Pieces, max_new_tokens: int) -> None:
        """Begin an empty answer."""
        self._pieces, self._limit = pieces, max_new_tokens
        self._tail = ""
        self.tokens: list[int] = []
        self.finish = ""  # "stop" or "length" once it is complete

    @property
    def remaining(self) -> int:
        """Tokens that may still be written."""
        return self._limit - len(self.tokens)

    def add(self, token: int) -> None:
        """Take one more token; after it ``finish`` may be set."""
        if token in self._pieces.ends:
            self.finish = STOP
            return
        self.tokens.append(token)
        piece = self._pieces[token]
        # White space before the answer's first word does not count: models often begin with a line end.
        self._tail = self._tail + piece if self._tail else piece.lstrip()
        if "\n" in self._tail or _NEXT_INPUT.search(self._tail):
            self.finish = STOP
        elif not self.remaining:
            self.finish = LENGTH
        self._tail = self._tail[-_TAIL:]

    @property
    def text(self) -> str:
        """The answer, without the line end or the marker that ended it."""
        text = self._pieces.text(self.tokens)
        body = text.lstrip()
        lead = text[: len(text) - len(body)]
        line = body.split("\n", 1)[0]
        return lead + _NEXT_INPUT.split(line, maxsplit=1)[0]
