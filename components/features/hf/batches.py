"""Batches across clips whose composition changes no byte.

How a matrix product is summed depends on its shape, so every batch of one shape of items has the
same size, the last one filled up. A row's sum may also depend on where in the batch it lies. So the
first batch of a shape holds one and the same item everywhere: where all answers are equal to the bit,
place does not matter and clips share batches; where they are not, a batch holds one clip alone, which
begins at place 0. Either way a clip's features depend on nothing but the clip.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Items = NDArray[Any]
Embed = Callable[[Items], Array]

log = logging.getLogger(__name__)


@dataclass
class _Clip:
    """A clip whose items are being embedded."""

    clip_id: str
    items: Items
    answers: list[Array] = field(default_factory=list)


class Batches:
    """Embeds the items of many clips in batches of ``size``."""

    def __init__(self, embed: Embed, noise: Callable[[Items], Items], size: int) -> None:
        """``embed``: (B, ...) items to (B, ...) answers; ``noise``: an item to another of its shape."""
        self._embed, self._noise, self._size = embed, noise, size
        self._shared: dict[tuple[int, ...], bool] = {}

    def answers(self, clips: Iterable[tuple[str, Items | Exception]]) -> Iterator[tuple[str, Items, Array | Exception]]:
        """Yield (clip_id, items, answers to them, or what stopped it) as clips are done."""
        waiting: dict[tuple[int, ...], list[tuple[_Clip, int]]] = {}
        for clip_id, items in clips:
            if isinstance(items, Exception):
                yield clip_id, np.zeros(0), items
                continue
            shape = items.shape[1:]
            queue = waiting.setdefault(shape, [])
            clip = _Clip(clip_id, items)
            queue += [(clip, at) for at in range(len(items))]
            alone = not self._may_share(items[0])
            while len(queue) >= self._size or (alone and queue):
                yield from self._take(queue)
        for queue in waiting.values():
            while queue:
                yield from self._take(queue)

    def _take(self, queue: list[tuple[_Clip, int]]) -> Iterator[tuple[str, Items, Array]]:
        """Embed the first of ``queue``; yield the clips that are complete."""
        batch = queue[: self._size]
        del queue[: self._size]
        found = self._full([clip.items[at] for clip, at in batch])
        for (clip, _), answer in zip(batch, found, strict=False):
            clip.answers.append(answer)
            if len(clip.answers) == len(clip.items):
                yield clip.clip_id, clip.items, np.stack(clip.answers)

    def _full(self, items: list[Items]) -> Array:
        """Return the answers to a batch, filled up by its first item."""
        return self._embed(np.stack(items + [items[0]] * (self._size - len(items))))

    def _may_share(self, item: Items) -> bool:
        """Return whether an answer is the same at each place of a batch of such items."""
        if item.shape not in self._shared:
            answers = self._full([self._noise(item)])
            same = bool((answers.view(np.uint32) == answers[:1].view(np.uint32)).all())
            if not same:
                log.info("features: answers depend on the place in a batch here; each clip has batches of its own")
            self._shared[item.shape] = same
        return self._shared[item.shape]
