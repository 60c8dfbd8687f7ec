"""Which prompts begin alike, token by token, so that their common part is computed once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from components.captioning.completion import Request


@dataclass(frozen=True)
class Prompt:
    """A request in tokens: ``shared + own`` are exactly the tokens of its prompt."""

    request: Request
    shared: tuple[int, ...]  # a beginning that other requests have too; empty where there are none
    own: tuple[int, ...]  # never empty, unless the prompt is


def tokenised(encode: Callable[[str], list[int]], requests: Iterable[Request]) -> list[Prompt]:
    """Return the requests in tokens, those with the same shared part together, shortest own part first.

    A tokenizer may merge characters across the border of prefix and suffix; so the whole prompt is
    encoded, and only as many tokens count as shared as it really has in common with its prefix. A
    beginning that one request alone has stays with that request: there is nothing to share.
    """
    prefixes: dict[str, tuple[int, ...]] = {}
    groups: dict[tuple[int, ...], list[Prompt]] = {}
    for request in requests:
        if request.prefix not in prefixes:
            prefixes[request.prefix] = tuple(encode(request.prefix)) if request.prefix else ()
        prefix, whole = prefixes[request.prefix], tuple(encode(request.prompt))
        common = _common(prefix, whole)
        shared = prefix if common == len(prefix) else prefix[:common]
        groups.setdefault(shared, []).append(Prompt(request, shared, whole[common:]))
    together: list[Prompt] = []
    alone: list[Prompt] = []
    for shared, group in groups.items():
        if shared and len(group) > 1:
            together += sorted(group, key=_length)
        else:
            alone += [Prompt(one.request, (), shared + one.own) for one in group]
    return together + sorted(alone, key=_length)


def shared_tokens(encode: Callable[[str], list[int]], requests: Sequence[Request]) -> tuple[int, int, int]:
    """Return prompts, their tokens, and the tokens that are computed when beginnings are shared."""
    prompts = tokenised(encode, requests)
    own = sum(len(prompt.own) for prompt in prompts)
    total = own + sum(len(prompt.shared) for prompt in prompts)
    return len(prompts), total, own + sum(len(shared) for shared in {prompt.shared for prompt in prompts})


def _common(prefix: tuple[int, ...], whole: tuple[int, ...]) -> int:
    """Return how many first tokens are the same; at least one token of the whole is left over."""
    if prefix == whole[: len(prefix)] and len(prefix) < len(whole):
        return len(prefix)
    most = min(len(prefix), len(whole) - 1)
    return next((at for at in range(most) if prefix[at] != whole[at]), max(most, 0))


def _length(prompt: Prompt) -> int:
    return len(prompt.own)
