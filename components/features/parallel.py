"""Run one function over many sources in several processes."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from components.features.source import Source

T = TypeVar("T")

_FEW_CHUNKS = 4  # of which starting processes would take longer than the work
_CHUNK = 8  # sources per task: little enough that progress is steady and a stop loses little


def spread(
    work: Callable[..., list[T]], sources: Sequence[Source], extra: tuple[Any, ...], workers: int
) -> Iterator[T]:
    """Yield the results of ``work(chunk, *extra)`` over chunks of sources, as they are done.

    Raises:
        ValueError: a process died, most likely for want of memory.
    """
    chunks = [sources[first : first + _CHUNK] for first in range(0, len(sources), _CHUNK)]
    if workers == 1 or len(chunks) <= _FEW_CHUNKS:
        for chunk in chunks:
            yield from work(chunk, *extra)
        return
    with processes(min(workers, len(chunks))) as pool:
        for done in as_completed([pool.submit(work, chunk, *extra) for chunk in chunks]):
            yield from done.result()


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; on leaving, work that has not begun is dropped.

    Raises:
        ValueError: a process died, most likely for want of memory.
    """
    # Spawn: a forked child would inherit the locks of threads it does not have.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise ValueError(
                "a features process died (out of memory?); lower features.workers and run again, finished rows are kept"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
