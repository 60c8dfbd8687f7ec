"""The generation engine: many prompts, few of them at once, what they share computed once.

A prompt's answer depends on nothing but its request: in float32 neither the batch, its padding and its
order nor a shared prefix change a text (other precisions round, and BLOOM's 250,880 words tie in bfloat16).
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from components.captioning.batch import Batch, Job, Steps
from components.captioning.completion import ERROR, Completion, Request
from components.captioning.decoding import Answer, Pieces, Sampling, choose, sampling_of
from components.captioning.kv import Prefix
from components.captioning.sharing import tokenised

log = logging.getLogger(__name__)

# Tokens of own parts in one forward pass: enough to keep the processor busy. More would pad shorter parts more.
READ_AT_ONCE = {"cpu": 512, "cuda": 4096}
KEPT = 0.75  # share of live rows above which a batch stays as it is
CUDA_STEPS = 8  # between looks at the tokens: a look waits for the GPU


class Engine:
    """Completes prompts with a causal model."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int, context: int | None = None) -> None:
        """Take a loaded model.

        Args:
            model: a causal model of transformers, in evaluation mode.
            tokenizer: its tokenizer.
            batch_size: prompts at once, at most.
            context: longest prompt with its answer, in tokens; None where the model has no limit.
        """
        self._tokenizer, self._limit, self._context = tokenizer, batch_size, context
        self._ends = _ends(model, tokenizer)
        self._steps = Steps(model, next(iter(sorted(self._ends)), 0))
        self._check_every = CUDA_STEPS if model.device.type == "cuda" else 1
        self._read_at_once = READ_AT_ONCE.get(model.device.type, READ_AT_ONCE["cuda"])
        self._pieces = Pieces(tokenizer, self._ends)
        self._latest: Prefix | None = None

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """See ``LanguageModel.complete``."""
        prompts = tokenised(lambda text: list(self._tokenizer(text)["input_ids"]), requests)
        waiting: deque[Job] = deque()
        for prompt in prompts:
            job = Job(prompt, Answer(self._pieces, prompt.request.max_new_tokens))
            job.failure = self._refusal(job)
            if job.failure:
                yield _completion(job)
            else:
                waiting.append(job)
        batch: Batch | None = None
        while waiting or batch:
            running = [batch.jobs[row] for row in batch.live] if batch else []
            taken = self._next(waiting, len(running))
            try:
                batch = self._advanced(batch, taken)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                batch = None
                self._smaller(running + taken, waiting)
            yield from map(_completion, (job for job in running + taken if not job.live))

    def _refusal(self, job: Job) -> str:
        """Return why a prompt cannot be answered; empty where it can."""
        length = len(job.prompt.shared) + len(job.prompt.own)
        if not length:
            return "empty_prompt: the prompt has no tokens"
        if self._context is not None and length + job.answer.remaining > self._context:
            return (
                f"too_long: a prompt of {length} tokens and {job.answer.remaining} new ones are more than the model's "
                f"context of {self._context}"
            )
        return ""

    def _next(self, waiting: deque[Job], running: int) -> list[Job]:
        """Return the jobs that join now: none before a quarter of the rows are free, joining is work too."""
        if running > KEPT * self._limit:
            return []
        return [waiting.popleft() for _ in range(min(len(waiting), self._limit - running))]

    @torch.inference_mode()
    def _advanced(self, batch: Batch | None, joining: Sequence[Job]) -> Batch | None:
        """Let jobs join, write some tokens, let complete rows leave."""
        parts: list[tuple[Batch, Sequence[int]]] = []
        if batch and joining:
            parts.append((batch, batch.live))
        for shared, group in groupby(joining, key=lambda job: job.prompt.shared):
            prefix = self._prefix(shared)
            for jobs in _chunks(list(group), self._read_at_once):
                part, logits = self._steps.begin(jobs, prefix)
                part.last, usable = choose(logits, _sampling(part, 1), 0)
                _note(part, part.last[None], usable[None])
                parts.append((part, part.live))
        if parts:
            parts = [(part, live) for part, live in parts if live]
            whole = len(parts) == 1 and len(parts[0][1]) == len(parts[0][0].jobs)
            batch = parts[0][0] if whole else self._steps.gathered(parts) if parts else None
        if batch is None:
            return None
        self._write(batch)
        live = batch.live
        if not live:
            return None
        return self._steps.gathered([(batch, live)]) if len(live) <= KEPT * len(batch.jobs) else batch

    def _write(self, batch: Batch) -> None:
        """Write as many tokens as are looked at together."""
        count = min(self._check_every, max(batch.jobs[row].answer.remaining for row in batch.live))
        sampled = _sampling(batch, count)
        tokens, usable = [], []
        for step in range(count):
            batch.last, fine = choose(self._steps.step(batch), sampled, step)
            tokens.append(batch.last)
            usable.append(fine)
        _note(batch, torch.stack(tokens), torch.stack(usable))

    def _prefix(self, tokens: tuple[int, ...]) -> Prefix | None:
        """Return a computed prefix. Jobs with the same one follow each other, so only the latest is kept."""
        if not tokens:
            return None
        if self._latest is None or self._latest.tokens != tokens:
            self._latest = None  # frees its memory first
            self._latest = self._steps.prefix(tokens)
        return self._latest

    def _smaller(self, jobs: list[Job], waiting: deque[Job]) -> None:
        """Put jobs back after memory ran out; what they have written stays written."""
        self._latest = None
        torch.cuda.empty_cache()  # does nothing where CUDA is not used
        live = [job for job in jobs if job.live]
        if len(live) == 1:
            live[0].failure = "out_of_memory: memory does not suffice for this prompt alone"
            return
        self._limit = max(1, min(self._limit, len(live)) // 2)
        log.warning("captioning: out of memory with %d prompts at once; going on with %d", len(live), self._limit)
        waiting.extendleft(reversed(live))


def _chunks(jobs: list[Job], most: int) -> Iterator[list[Job]]:
    """Yield jobs in groups that are read in one pass; neighbours are of similar length."""
    chunk: list[Job] = []
    width = 0
    for job in jobs:
        length = len(job.prompt.own) + len(job.answer.tokens)
        if chunk and max(width, length) * (len(chunk) + 1) > most:
            yield chunk
            chunk, width = [], 0
        chunk.append(job)
        width = max(width, length)
    yield chunk


def _sampling(batch: Batch, steps: int) -> Sampling | None:
    requests = [job.prompt.request for job in batch.jobs]
    return sampling_of(requests, [len(job.answer.tokens) for job in batch.jobs], steps, batch.last.device)


def _note(batch: Batch, tokens: Tensor, usable: Tensor) -> None:
    """Add tokens (steps, B) to the answers; those after an answer's end are dropped."""
    for row_tokens, row_usable, job in zip(tokens.T.tolist(), usable.T.tolist(), batch.jobs, strict=True):
        for token, fine in zip(row_tokens, row_usable, strict=True):
            if not job.live:
                break
            if fine:
                job.answer.add(token)
            else:
                job.failure = "not_finite: the model's logits are not numbers; try another dtype"


def _completion(job: Job) -> Completion:
    if job.failure:
        return Completion(job.prompt.request, "", ERROR, job.failure)
    return Completion(job.prompt.request, job.answer.text, job.answer.finish)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a text, by what the model's files and the tokenizer say; there may be none."""
    listed = [model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id]
    flat = [token for item in listed for token in (item if isinstance(item, list) else [item])]
    return frozenset(token for token in flat if token is not None)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether memory ran out: a class of its own on GPUs, only words on CPUs."""
    words = "not enough memory", "can't allocate memory", "out of memory"
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
