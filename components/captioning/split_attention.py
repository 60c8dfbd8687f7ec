"""BLOOM's attention over a prefix that is held once for all rows.

Copying a prefix to every row would cost its memory per row (BLOOM 176B: 4 MB a token) and read it per row in
every step. Here each row attends to two pieces with one softmax over both: its own columns, and the prefix, against
which the queries of all its rows are one matrix (as in Hydragen; Juravsky et al., 2024).

Shapes: B rows, n rows of one prefix, H heads, Q queries, P prefix tokens, L own columns, D dims of a head.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from components.captioning.kv import Prefix, Rows, RowsLayer

Spans = Sequence[tuple[Prefix | None, int]]  # neighbouring rows with the same prefix, and their number


class SplitRows(Rows):
    """Rows that hold their own columns only, and know which prefix each of them continues."""

    def __init__(self, layers: list[RowsLayer]) -> None:
        """Begin without prefixes."""
        super().__init__(layers)
        self.spans: list[tuple[Prefix | None, int]] = []
        self._line = self._bias = torch.empty(0)
        self._placed: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def arrange(self, spans: Spans, mask: Tensor, offsets: Tensor, line: Tensor) -> None:
        """Fix what does not change from step to step.

        Args:
            spans: prefixes of the rows, in order.
            mask: (B, capacity), True where a row has a token or will have one.
            offsets: (B,), a token's position less its column.
            line: (H, positions), ALiBi's bias of every position.
        """
        self.spans = list(spans)
        columns = torch.arange(mask.shape[1], device=mask.device)
        positions = (columns + offsets[:, None]).clamp(min=0)  # (B, capacity)
        bias = line[:, positions].transpose(0, 1)  # (B, H, capacity)
        self._bias = bias.masked_fill(~mask[:, None], torch.finfo(line.dtype).min)[:, :, None]
        self._line = line
        self._placed = {}

    def biases(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the bias of own columns (B, H, 1, capacity) and of positions (H, positions), where a layer is."""
        if device not in self._placed:
            self._placed[device] = (self._bias.to(device), self._line.to(device))
        return self._placed[device]


def can_split(model: Any) -> bool:
    """Return whether the model is a BLOOM whose attention is the plain one."""
    return model.config.model_type == "bloom" and not model.config.slow_but_exact


def split_attention(model: Any) -> None:
    """Let the model's attention layers use ``SplitRows``; with any other cache they work as before."""
    for block in model.transformer.h:
        attention = block.self_attention
        if getattr(attention.forward, "func", None) is not _forward:  # not done before
            attention.forward = partial(_forward, attention, attention.forward)


def alibi_line(model: Any, positions: int) -> Tensor:
    """Return ALiBi's bias (H, positions) just as the model rounds it."""
    ones = torch.ones(1, positions, dtype=torch.long, device=model.device)
    heads = model.config.n_head
    line: Tensor = model.transformer.build_alibi_tensor(ones, heads, model.dtype)
    return line.reshape(heads, positions)


def _forward(
    attention: Any, usual: Any, hidden_states: Tensor, residual: Tensor, *, layer_past: Any = None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Stand in for BloomAttention.forward."""
    if not isinstance(layer_past, SplitRows):
        answer: tuple[Tensor, Tensor | None] = usual(hidden_states, residual, layer_past=layer_past, **kwargs)
        return answer
    rows, queries, width = hidden_states.shape
    heads, dims, layer = attention.num_heads, attention.head_dim, attention.layer_idx
    fused = attention.query_key_value(hidden_states).view(rows, queries, heads, 3, dims)
    query, key, value = fused.permute(3, 0, 2, 1, 4)  # each (B, H, Q, D)
    keys, values = layer_past.update(key, value, layer)  # (B, H, L, D)
    length = keys.shape[2]
    bias, line = layer_past.biases(query.device)
    own = torch.baddbmm(
        bias[..., :length].reshape(rows * heads, 1, length),
        query.reshape(rows * heads, queries, dims),
        keys.reshape(rows * heads, length, dims).transpose(1, 2),
        alpha=attention.inv_norm_factor,
    ).view(rows, heads, queries, length)
    if queries > 1:
        later = torch.ones(queries, length, dtype=torch.bool, device=own.device).triu(length - queries + 1)
        own = own.masked_fill(later, torch.finfo(own.dtype).min)
    context = torch.empty(rows, queries, heads, dims, dtype=value.dtype, device=value.device)
    first = 0
    for prefix, count in layer_past.spans:
        last = first + count
        begun = None if prefix is None else prefix.layers[layer]
        part = _attended(query[first:last], own[first:last], values[first:last], begun, line, attention)
        context[first:last] = part.transpose(1, 2)
        first = last
    return attention.dense(context.view(rows, queries, width)) + residual, None


def _attended(
    query: Tensor, own: Tensor, values: Tensor, prefix: tuple[Tensor, Tensor] | None, line: Tensor, attention: Any
) -> Tensor:
    """Return the context (n, H, Q, D) of rows with one prefix; ``own`` are their scores of own columns."""
    if prefix is None:
        return torch.softmax(own, -1, dtype=torch.float32).to(values.dtype) @ values
    count, heads, queries, dims = query.shape
    keys, prefix_values = prefix[0][0], prefix[1][0]  # (H, P, D)
    tokens = keys.shape[1]
    folded = query.transpose(0, 1).reshape(heads, count * queries, dims)
    seen = torch.baddbmm(line[:, None, :tokens], folded, keys.transpose(1, 2), alpha=attention.inv_norm_factor)
    seen = seen.view(heads, count, queries, tokens).transpose(0, 1)
    weights = torch.softmax(torch.cat((seen, own), -1), -1, dtype=torch.float32).to(values.dtype)
    to_prefix = weights[..., :tokens].transpose(0, 1).reshape(heads, count * queries, tokens)
    context = (to_prefix @ prefix_values).view(heads, count, queries, dims).transpose(0, 1)
    return context + weights[..., tokens:] @ values
