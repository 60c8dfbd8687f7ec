"""The format of OpenAI's completions, which most servers of language models speak."""

import json

from components.captioning.completion import LENGTH, STOP, Request
from components.captioning.prompt import INPUT

# The answer is the first line with words. A line's end alone is no place to stop: many models begin
# with one. What a model that has understood writes after its answer is the next example.
_STOPS = ("\n[", INPUT)
_CUT_SHORT = ("abort", "error", "content_filter")  # reasons to finish that leave no whole answer


class FormatError(ValueError):
    """A response that holds no answer."""


def body_of(model: str, request: Request) -> bytes:
    """Return what is sent. A greedy request has no seed: its digest does not cover any."""
    body = {
        "model": model,
        "prompt": request.prompt,
        "max_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "stop": _STOPS,
    }
    if request.temperature:
        body |= {"top_p": request.top_p, "seed": request.seed % 2**31}  # some servers count in 32 bits
    return json.dumps(body).encode()


def answer_in(received: bytes) -> tuple[str, str]:
    """Return a response's text, raw, and its finish (see ``Completion``).

    The text is taken as complete where its line is, also if the server stopped it for its length.

    Raises:
        FormatError: there is no text, or the server says itself that it is not whole.
    """
    try:
        value = json.loads(received)
    except (ValueError, RecursionError):
        raise FormatError("not JSON") from None
    match value:
        case {"choices": [{"text": str(text), **choice}, *_]}:
            reason = choice.get("finish_reason")
        case _:
            raise FormatError("no text among choices")
    if reason in _CUT_SHORT:
        raise FormatError(f"the server stopped by itself ({reason})")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a pair cannot be stored
    line_ended = "\n" in text.lstrip() or INPUT in text
    return text, LENGTH if reason == "length" and not line_ended else STOP
