"""Prompts under way together, and the model's steps over them.

Shapes: B rows, S tokens of the longest own part, V words of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.captioning.decoding import Answer
from components.captioning.kv import Prefix, Rows
from components.captioning.sharing import Prompt
from components.captioning.split_attention import SplitRows, alibi_line, can_split, split_attention


@dataclass(eq=False)
class Job:
    """A prompt and what has been written after it."""

    prompt: Prompt
    answer: Answer
    failure: str = ""

    @property
    def live(self) -> bool:
        """True while tokens are to come."""
        return not (self.answer.finish or self.failure)


@dataclass(eq=False)
class Batch:
    """Rows under way; a row's columns end where every other row's end."""

    jobs: list[Job]
    rows: Rows
    prefixes: list[Prefix | None]  # of each row, where it is held once
    starts: list[int]  # first column that each row uses
    mask: Tensor  # (B, capacity), True where a row has a token or will have one
    offsets: Tensor  # (B,), the position of a row's token less its column
    last: Tensor  # (B,), the token to be read next

    @property
    def live(self) -> list[int]:
        """Numbers of the rows that are not complete."""
        return [row for row, job in enumerate(self.jobs) if job.live]


class Steps:
    """A causal model, one step at a time."""

    def __init__(self, model: Any, pad: int) -> None:
        """Look at what the model can do; ``pad`` is any token, it is always masked."""
        self._model, self._pad = model, pad
        self._layers = model.config.get_text_config(decoder=True).num_hidden_layers
        self._line = torch.empty(0, 0)
        self.splits = can_split(model)
        if self.splits:
            split_attention(model)

    def prefix(self, tokens: tuple[int, ...]) -> Prefix:
        """Return the computed beginning of prompts."""
        return Prefix.computed(self._model, tokens)

    def begin(self, jobs: Sequence[Job], prefix: Prefix | None) -> tuple[Batch, Tensor]:
        """Read the prompts' own parts (and what was written before an interruption); return logits (B, V) too.

        Own parts are padded on the left: between the shared prefix and themselves.
        """
        device = self._model.device
        texts = [[*job.prompt.own, *job.answer.tokens] for job in jobs]
        width = max(map(len, texts))
        pads = [width - len(text) for text in texts]
        ids = torch.tensor([[self._pad] * pad + text for pad, text in zip(pads, texts, strict=True)], device=device)
        capacity = width + max(job.answer.remaining for job in jobs)
        padding = torch.tensor(pads, device=device)
        mask = torch.arange(capacity, device=device) >= padding[:, None]
        offsets = -padding
        if prefix is None or self.splits:
            rows = (SplitRows if self.splits else Rows).empty(self._layers, capacity)
            held, starts = prefix, pads
            if prefix is not None:
                offsets = offsets + len(prefix)
        else:
            rows = Rows.begun(prefix, capacity)
            held, starts = None, [0] * len(jobs)
            mask = torch.cat((mask.new_ones(len(jobs), len(prefix)), mask), 1)
        batch = Batch(list(jobs), rows, [held] * len(jobs), starts, mask, offsets, ids[:, -1])
        self._arrange(batch)
        return batch, self._run(batch, ids)

    def step(self, batch: Batch) -> Tensor:
        """Read ``batch.last``; return logits (B, V)."""
        return self._run(batch, batch.last[:, None])

    def gathered(self, parts: Sequence[tuple[Batch, Sequence[int]]]) -> Batch:
        """Return a batch of the named rows of others, ending at the same column."""
        first = [min(batch.starts[row] for row in kept) for batch, kept in parts]
        widths = [batch.rows.get_seq_length() - at for (batch, _), at in zip(parts, first, strict=True)]
        used = max(widths)
        jobs = [batch.jobs[row] for batch, kept in parts for row in kept]
        capacity = used + max(job.answer.remaining for job in jobs)
        device = parts[0][0].mask.device
        mask = torch.ones(len(jobs), capacity, dtype=torch.bool, device=device)
        starts, offsets, last, taken = [], [], [], []
        at = 0
        for (batch, kept), begin, width in zip(parts, first, widths, strict=True):
            rows, shift = torch.tensor(kept, device=device), used - width - begin
            mask[at : at + len(kept), :used] = False
            mask[at : at + len(kept), used - width : used] = batch.mask[rows, begin : begin + width]
            starts += [batch.starts[row] + shift for row in kept]
            offsets.append(batch.offsets[rows] - shift)
            last.append(batch.last[rows])
            taken.append((batch.rows, rows, begin))
            at += len(kept)
        made = type(taken[0][0]).gathered(taken, used, capacity)
        prefixes = [batch.prefixes[row] for batch, kept in parts for row in kept]
        together = Batch(jobs, made, prefixes, starts, mask, torch.cat(offsets), torch.cat(last))
        self._arrange(together)
        return together

    def _arrange(self, batch: Batch) -> None:
        if not isinstance(batch.rows, SplitRows):
            return
        positions = batch.mask.shape[1] + int(batch.offsets.max())
        if self._line.shape[1] < positions:
            self._line = alibi_line(self._model, 2 * positions)
        spans: list[tuple[Prefix | None, int]] = []
        for prefix in batch.prefixes:
            if spans and spans[-1][0] is prefix:
                spans[-1] = prefix, spans[-1][1] + 1
            else:
                spans.append((prefix, 1))
        batch.rows.arrange(spans, batch.mask, batch.offsets, self._line)

    def _run(self, batch: Batch, ids: Tensor) -> Tensor:
        used = batch.rows.get_seq_length() + ids.shape[1]
        kwargs: dict[str, Tensor] = {}
        if not self.splits:
            columns = torch.arange(used - ids.shape[1], used, device=ids.device)
            kwargs = {
                "attention_mask": batch.mask[:, :used].long(),
                "position_ids": (columns + batch.offsets[:, None]).clamp(min=0),
            }
        output = self._model(input_ids=ids, past_key_values=batch.rows, use_cache=True, logits_to_keep=1, **kwargs)
        logits: Tensor = output.logits[:, -1].float()
        return logits
