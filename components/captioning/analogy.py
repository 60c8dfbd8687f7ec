"""Captions by analogy: prompt a language model, judge what it writes, try again, and at last give up well."""

import logging
from collections.abc import Iterator, Sequence

from components.captioning.captioner import (
    FALLBACK,
    OK,
    QUARANTINED,
    Attempt,
    Caption,
    Exemplar,
    Sources,
    Tagged,
    chance,
    digest_of,
    version_of,
)
from components.captioning.completion import ERROR, Completion, LanguageModel, Request
from components.captioning.data2text import Data2Text
from components.captioning.exemplars import build_selection
from components.captioning.journal import Journal, complete_once
from components.captioning.params import BloomParams, EndpointParams
from components.captioning.prompt import answer, asked, prefix_of, suffix_of, usable_exemplars
from components.captioning.quality import judge

log = logging.getLogger(__name__)

_CHARS_PER_TOKEN = 2.5  # of a tokenizer that is not here: on the safe side for English with numbers
_MARKS = 4  # tokens that a tokenizer may add around a text
# What changes how captions are computed, not what they say.
_PRACTICAL = {
    "batch_size",
    "device_map",
    "url",
    "key_variable",
    "concurrency",
    "timeout_s",
    "retries",
    "longest_wait_s",
}


class Analogy:
    """Captions of a language model. A caption depends on its clip, the exemplars and the model alone."""

    def __init__(self, params: BloomParams | EndpointParams, sources: Sources, model: LanguageModel) -> None:
        """Choose the pool; the model is loaded when the first caption is asked for.

        Raises:
            ValueError: too few described train clips for a prompt.
        """
        pool = usable_exemplars(sources.exemplars)
        if len(pool) <= params.prompt.exemplars:
            raise ValueError(
                f"captioning: {len(pool)} of {len(sources.exemplars)} described train clips can be exemplars, a prompt "
                f"needs {params.prompt.exemplars} beside the clip itself; lower captioning.prompt.exemplars or "
                "describe more train clips"
            )
        if len(pool) < len(sources.exemplars):
            log.info(
                "captioning: %d of %d described train clips left out as exemplars (no tags, no words, too long, or "
                "with prompt markers)",
                len(sources.exemplars) - len(pool),
                len(sources.exemplars),
            )
        settings = params.model_dump(exclude=_PRACTICAL)
        self._params, self._sources, self.language_model = params, sources, model
        pool = [Exemplar(self._asked(item.clip), item.text) for item in pool]
        self._selection = build_selection(params.prompt, pool, params.seed)
        self._lengths: dict[str, int] = {}  # of prefixes, in tokens
        self._plain = Data2Text(params.seed, params.prompt.max_tags, 0.0, sources.taxonomy)
        self.seed = params.seed
        self.model = model.identity
        known = ((row["request"], row["finish"], row["text"]) for row in sources.paid if row["model"] == model.identity)
        self._journal = Journal(sources.journal, model.identity, known)
        self.version = version_of(params.kind, type(self), settings, self.model, sources.taxonomy.digest)

    def key(self, clip: Tagged, attempts: int) -> str:
        """Return the digest of every prompt that ``attempts`` tries of the clip send."""
        return digest_of([self.request(clip, number)[0].digest for number in range(attempts)])

    def request(self, clip: Tagged, attempt: int) -> tuple[Request, list[Exemplar]]:
        """Return what is asked in one try, and the exemplars shown."""
        decoding = self._params.decoding
        shown = self._selection.choose(clip, attempt)
        suffix = suffix_of(self._asked(clip))
        while shown and not self._fits(shown, suffix):
            shown = shown[1:]
        request = Request(
            clip_id=clip.clip_id,
            attempt=attempt,
            prefix=prefix_of(shown),
            suffix=suffix,
            temperature=decoding.retry_temperature if attempt else decoding.temperature,
            top_p=decoding.top_p,
            seed=chance(self.seed, "sample", clip.clip_id, str(attempt)).getrandbits(63),
            max_new_tokens=decoding.max_new_tokens,
        )
        return request, shown

    def unanswered(self, clips: Sequence[Tagged]) -> list[Request]:
        """Return the first requests of clips that no earlier run has an answer to."""
        requests = [self.request(clip, 0)[0] for clip in clips]
        answered = self._journal.answered(requests)
        return [request for request in requests if request.digest not in answered]

    def caption(self, clips: Sequence[Tagged]) -> Iterator[Caption]:
        """See ``Captioner.caption``."""
        attempts: dict[str, list[Attempt]] = {clip.clip_id: [] for clip in clips}
        waiting = {clip.clip_id: clip for clip in clips}
        for number in range(self._params.attempts):
            sent = {clip_id: self.request(clip, number) for clip_id, clip in waiting.items()}
            requests = [request for request, _ in sent.values()]
            for completion in complete_once(self.language_model, requests, self._journal):
                clip_id = completion.request.clip_id
                made = self._judged(waiting[clip_id], completion, sent[clip_id][1])
                attempts[clip_id].append(made)
                if not made.reasons:
                    yield self._caption(waiting.pop(clip_id), attempts[clip_id], OK)
            if not waiting:
                return
        given_up = QUARANTINED if self._params.otherwise == "quarantine" else FALLBACK
        for clip_id, clip in waiting.items():
            yield self._caption(clip, attempts[clip_id], given_up)

    def _judged(self, clip: Tagged, completion: Completion, shown: Sequence[Exemplar]) -> Attempt:
        text = answer(completion.text)
        if completion.finish == ERROR:
            return Attempt(completion, text, tuple(shown), ("error",))
        taxonomy, names = self._sources.taxonomy, self._sources.names
        judgement = judge(text, completion.finish, self._asked(clip), shown, taxonomy, self._params.quality, names)
        return Attempt(completion, text, tuple(shown), judgement.reasons)

    def _caption(self, clip: Tagged, attempts: list[Attempt], verdict: str) -> Caption:
        last = attempts[-1]
        return Caption(
            clip.clip_id,
            self._plain.sentence(clip) if verdict == FALLBACK else last.text,
            verdict,
            attempts=tuple(attempts),
            exemplar_ids=tuple(item.clip.clip_id for item in last.exemplars) if verdict == OK else (),
        )

    def _asked(self, clip: Tagged) -> Tagged:
        return asked(clip, self._params.prompt.max_tags, self._sources.taxonomy)

    def _fits(self, shown: Sequence[Exemplar], suffix: str) -> bool:
        prefix = prefix_of(shown)
        most = len((prefix + suffix).encode()) + _MARKS + self._params.decoding.max_new_tokens
        if most <= self._params.prompt.token_budget:
            return True  # no token is shorter than a byte
        if prefix not in self._lengths:
            self._lengths[prefix] = self._count(prefix)
        count = self._lengths[prefix] + self._count(suffix) + self._params.decoding.max_new_tokens
        return count <= self._params.prompt.token_budget

    def _count(self, text: str) -> int:
        tokens = self.language_model.tokens(text)
        return len(tokens) if tokens is not None else int(len(text) / _CHARS_PER_TOKEN) + 1
