"""``kind: bloom``: a causal language model in this process completes the prompts."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from components.captioning.completion import Completion, Request
from components.captioning.load import context_length, is_folder, load_model, load_tokenizer
from components.captioning.params import BloomParams
from components.code import code_digest
from components.hub import folder_digest


class LocalModel:
    """BLOOM of any size, or another causal model; see ``completion.LanguageModel``.

    The tokenizer is read when tokens are counted, the weights when the first prompt is to be completed.
    """

    def __init__(self, params: BloomParams) -> None:
        """Take the section; nothing is read yet."""
        self._params = params

    @cached_property
    def identity(self) -> str:
        """Model, revision, precision, the code that makes it answer and, of a folder, the digest of its files.

        Raises:
            ValueError: there is no such folder.
        """
        params = self._params
        said = (
            f"{params.model}@{params.revision} {params.dtype} {params.quantisation} code:{code_digest(LocalModel)[:12]}"
        )
        return f"{said} sha256:{folder_digest(Path(params.model))}" if is_folder(params) else said

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """See ``LanguageModel.complete``.

        A completion's error begins with its code: empty_prompt, too_long, not_finite or out_of_memory.
        """
        if requests:
            yield from self._engine.complete(requests)

    def tokens(self, text: str) -> list[int]:
        """Return the text's tokens."""
        return list(self._tokenizer(text)["input_ids"])

    def shared_tokens(self, requests: Sequence[Request]) -> tuple[int, int, int]:
        """Return prompts, their tokens, and the tokens that are read when shared beginnings are read once."""
        from components.captioning.sharing import shared_tokens

        return shared_tokens(self.tokens, requests)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._params)

    @cached_property
    def _engine(self) -> Any:
        from components.captioning.engine import Engine

        model = load_model(self._params, self._tokenizer)
        return Engine(model, self._tokenizer, self._params.batch_size, context_length(model))
