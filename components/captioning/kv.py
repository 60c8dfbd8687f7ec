"""Keys and values of prompts under way: one row per prompt, written in place, one column per token.

Shapes: B rows, H heads (of keys), P tokens of a shared prefix, L columns, D dims of a head.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache


class RowsLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer. Buffers have their final size from the start, so a step copies no earlier column."""

    is_sliding = False
    supports_early_init = False
    keys: Tensor  # (B, H, capacity, D)
    values: Tensor

    def __init__(self, capacity: int, prefix: tuple[Tensor, Tensor] | None = None) -> None:
        """Reserve ``capacity`` columns; with a prefix, keys and values (1, H, P, D), every row begins with it."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._capacity, self._prefix, self._used = capacity, prefix, prefix[0].shape[2] if prefix else 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the buffers; zeros, because a masked column is multiplied by 0 and must not be NaN."""
        rows, heads, _, _ = key_states.shape
        self.keys = key_states.new_zeros(rows, heads, self._capacity, key_states.shape[-1])
        self.values = value_states.new_zeros(rows, heads, self._capacity, value_states.shape[-1])
        if self._prefix is not None:
            self.keys[:, :, : self._used], self.values[:, :, : self._used] = self._prefix
            self._prefix = None
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new columns; return all columns so far, as views (B, H, L, D)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        first, self._used = self._used, self._used + key_states.shape[2]
        assert self._used <= self._capacity, (self._used, self._capacity)
        self.keys[:, :, first : self._used] = key_states
        self.values[:, :, first : self._used] = value_states
        return self.keys[:, :, : self._used], self.values[:, :, : self._used]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of columns after the next write, and the first one's number."""
        return self._used + query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of columns written."""
        return self._used

    def get_max_length(self) -> int:
        """Return -1: the engine makes the buffers as long as they will be needed."""
        return -1

    @classmethod
    def gathered(cls, parts: list[tuple["RowsLayer", Tensor, int]], used: int, capacity: int) -> "RowsLayer":
        """Return a layer of rows taken from others: (layer, numbers of rows, first column to keep).

        Columns end together at ``used``: a part with fewer is moved to the right.
        """
        layer = cls(capacity)
        layer._used = used
        model = parts[0][0]
        total = sum(len(rows) for _, rows, _ in parts)
        layer.keys = model.keys.new_zeros(total, model.keys.shape[1], capacity, model.keys.shape[3])
        layer.values = model.values.new_zeros(total, model.values.shape[1], capacity, model.values.shape[3])
        layer.is_initialized = True
        at = 0
        for part, rows, first in parts:
            width, rows = part._used - first, rows.to(part.keys.device)
            to = slice(at, at + len(rows)), slice(None), slice(used - width, used)
            layer.keys[to] = part.keys[:, :, first : part._used].index_select(0, rows)
            layer.values[to] = part.values[:, :, first : part._used].index_select(0, rows)
            at += len(rows)
        return layer


@dataclass(frozen=True, eq=False)
class Prefix:
    """A beginning shared by prompts: its keys and values per layer, (1, H, P, D)."""

    tokens: tuple[int, ...]
    layers: list[tuple[Tensor, Tensor]]

    @classmethod
    def computed(cls, model: Any, tokens: tuple[int, ...]) -> "Prefix":
        """Run the model over the tokens once."""
        cache: Any = DynamicCache()
        ids = torch.tensor([tokens], device=model.device)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cls(tokens, [(layer.keys, layer.values) for layer in cache.layers])

    def __len__(self) -> int:
        return len(self.tokens)


class Rows(Cache):
    """All layers of the rows under way."""

    def __init__(self, layers: list[RowsLayer]) -> None:
        """Take the layers as they are."""
        super().__init__(layers=list(layers))
        self._own = layers

    @classmethod
    def empty(cls, layers: int, capacity: int) -> "Rows":
        """Return rows without columns."""
        return cls([RowsLayer(capacity) for _ in range(layers)])

    @classmethod
    def begun(cls, prefix: Prefix, capacity: int) -> "Rows":
        """Return rows that each hold a copy of the prefix in their first columns."""
        return cls([RowsLayer(len(prefix) + capacity, pair) for pair in prefix.layers])

    @classmethod
    def gathered(cls, parts: list[tuple["Rows", Tensor, int]], used: int, capacity: int) -> "Rows":
        """See ``RowsLayer.gathered``."""
        return cls(
            [
                RowsLayer.gathered([(rows._own[at], kept, first) for rows, kept, first in parts], used, capacity)
                for at in range(len(parts[0][0]._own))
            ]
        )
