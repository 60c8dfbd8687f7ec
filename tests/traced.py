"""Which of our definitions a piece of work really runs: what a digest of code must at least cover."""

import importlib
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent
OURS = f"{ROOT / 'components'}/"
APART = ("components.code", "components.syntax")  # how a digest is made changes no result


def ran(work: Callable[[], Any], covered: Iterable[str]) -> set[str]:
    """Return ``module:name`` of every function and class of ``components`` that ``work`` runs; its children not.

    It is done twice: what an import runs is not what is asked here.
    """
    work()
    for module in {name.partition(":")[0].partition("/")[0] for name in covered}:
        for value in vars(importlib.import_module(module)).values():
            if callable(clear := getattr(value, "cache_clear", None)):
                clear()
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(OURS):
            return
        name = frame.f_code.co_qualname.partition(".")[0]
        module = ".".join(Path(path).relative_to(ROOT).with_suffix("").parts)
        if not name.startswith("<") and module not in APART:
            found.add(f"{module}:{name}")

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return found
