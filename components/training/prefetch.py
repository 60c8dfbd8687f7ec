"""Make the next thing in a thread while the present one is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(make: Callable[[int], T], steps: Iterable[int]) -> Iterator[tuple[int, T]]:
    """Yield (step, what ``make`` returns for it) in order; one is made in advance, never more.

    An error of ``make`` is raised where its result would come.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="next-batch") as pool:
        coming = None
        for step in steps:
            then, coming = coming, (step, pool.submit(make, step))
            if then is not None:
                yield then[0], then[1].result()
        if coming is not None:
            yield coming[0], coming[1].result()
