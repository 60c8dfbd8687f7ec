"""The seam to language models: what is asked of one, and what it answers."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

STOP, LENGTH, ERROR = "stop", "length", "error"


@dataclass(frozen=True)
class Request:
    """One prompt, one attempt. The answer depends on nothing else."""

    clip_id: str
    attempt: int  # from 0
    prefix: str  # the exemplars' lines; shared by every clip with the same exemplars
    suffix: str  # the clip's own lines
    temperature: float  # 0 is greedy
    top_p: float
    seed: int  # of sampling
    max_new_tokens: int

    @property
    def prompt(self) -> str:
        """Return the text that the model is to continue."""
        return self.prefix + self.suffix

    @property
    def decoding(self) -> str:
        """Return the settings of this one answer as JSON."""
        sampled = {"top_p": self.top_p, "seed": self.seed} if self.temperature else {}
        settings = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens, **sampled}
        return json.dumps(settings, sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of all that decides the answer, the model apart."""
        sampled = [self.top_p, self.seed] if self.temperature else []
        listed = [self.prompt, self.temperature, *sampled, self.max_new_tokens]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt, raw.

    ``finish`` is "stop" (the answer's line is complete), "length" (the token limit came first) or
    "error" (no answer; ``detail`` says why).
    """

    request: Request
    text: str
    finish: str
    detail: str = field(default="")


class LanguageModel(Protocol):
    """Completes prompts. A completion never depends on the requests it was made together with."""

    @property
    def identity(self) -> str:
        """Name and revision of the model with all settings that can change an answer."""
        ...

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield one completion per request, each as soon as it is there, in any order.

        Raises:
            ValueError: nothing can be completed at all (no model, no server, wrong key).
        """
        ...

    def tokens(self, text: str) -> list[int] | None:
        """Return the text's tokens as the model counts them; None where that is not known here."""
        ...

    def shared_tokens(self, requests: Sequence[Request]) -> tuple[int, int, int] | None:
        """Return prompts, their tokens, and the tokens that are computed; None where that is not known here."""
        ...
