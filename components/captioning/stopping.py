"""When an answer is complete; told token by token, without reading the text again."""

import re
from typing import Any

from components.captioning.completion import LENGTH, STOP

_NEXT_INPUT = re.compile(r"\[\s*input\s*\]", re.IGNORECASE)
_TAIL = 32  # characters that a marker may be spread over


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
