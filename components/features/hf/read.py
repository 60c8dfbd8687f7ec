"""Items of sources, decoded in processes ahead of the model."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from components.features.hf.encoder import Reader
from components.features.parallel import processes
from components.features.source import Source

Read = NDArray[Any] | Exception

_AHEAD = 2  # clips decoded ahead, per process
_FEW = 32  # clips of which starting processes would take longer than the work


def read_items(reader: Reader, sources: Sequence[Source], workers: int) -> Iterator[tuple[str, Read]]:
    """Yield (clip_id, its items or what stopped them), in order.

    Raises:
        ValueError: a process died, most likely for want of memory.
    """
    if workers == 1 or not reader.decodes or len(sources) <= _FEW:
        for source in sources:
            yield source.clip_id, _read(reader, source)
        return
    todo = iter(sources)
    waiting: deque[tuple[str, Future[Read]]] = deque()
    with processes(workers) as pool:
        while True:
            for source in islice(todo, _AHEAD * workers - len(waiting)):
                waiting.append((source.clip_id, pool.submit(_read, reader, source)))
            if not waiting:
                return
            clip_id, items = waiting.popleft()
            yield clip_id, items.result()


def _read(reader: Reader, source: Source) -> Read:
    """Return a source's items; one bad file must not stop the others."""
    try:
        return reader(source)
    except (ValueError, OSError) as error:
        return error
