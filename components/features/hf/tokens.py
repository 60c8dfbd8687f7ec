"""Tokens of a text, filled up to one of a few lengths that depends on the text alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.features.source import Source
from components.features.text import MAX_CHARS, NoWordsError, words_of

_SHORTEST = 8


@dataclass(frozen=True)
class TokenReader:
    """Reads a text's tokens; see ``Reader``."""

    tokenizer: Any
    max_tokens: int
    whole: bool
    """Whether each text is filled up to ``max_tokens``, as SigLIP's were in training."""
    decodes: bool = False

    def __call__(self, source: Source) -> NDArray[np.int64]:
        """Return (1, 2, T): token numbers, and 1 where a token is the text's.

        Raises:
            NoWordsError: the text has no letter or digit.
        """
        if not words_of(source.text):
            raise NoWordsError("the text has no letter or digit")
        said = self.tokenizer(
            source.text[:MAX_CHARS], truncation=True, max_length=self.max_tokens, return_attention_mask=True
        )
        count = len(said["input_ids"])
        length = self.max_tokens if self.whole else min(self.max_tokens, _filled(count))
        item = np.zeros((1, 2, length), np.int64)
        item[0, 0] = self.tokenizer.pad_token_id or 0
        item[0, 0, :count], item[0, 1, :count] = said["input_ids"], said["attention_mask"]
        return item


def _filled(count: int) -> int:
    """Return the next power of two: texts of like length share batches, and few lengths occur."""
    return max(_SHORTEST, 1 << (count - 1).bit_length())
