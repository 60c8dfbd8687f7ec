"""Kill a piece of work before each of its calls to the system, one after the other, and look at what is left."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import count

SEEN = ("os.", "open", "shutil.", "ctypes.")


def at_every_step(work: Callable[[], object]) -> Iterator[int]:
    """Yield a number each time that ``work`` was killed one call later, in a child of this process, until it ends.

    Run it in a process of its own that has no threads.

    Raises:
        AssertionError: the work failed.
    """
    for step in count(1):
        child = os.fork()
        if child == 0:
            _die_before(step)
            try:
                work()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, f"the work failed before step {step}"
            return
        yield step


def _die_before(step: int) -> None:
    left = step

    def count_down(event: str, _: object) -> None:
        nonlocal left
        if event.startswith(SEEN):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_down)
