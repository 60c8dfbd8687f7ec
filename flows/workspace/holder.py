"""Who holds something: a process, named so that anyone can tell later whether it still lives.

A process number alone is used again; with the time of its start, its boot and its process namespace
it is one process for ever. Of a process elsewhere nothing can be known from here.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil  # type: ignore[import-untyped]

Life = Literal["alive", "dead", "unknown"]

_SAME_START_S = 2.0  # the clock that start times are told from may be set meanwhile


@dataclass(frozen=True)
class Holder:
    """One process on one machine."""

    place: str
    """Machine, boot and process namespace: where `pid` means something."""
    pid: int
    started: float
    """Seconds since the epoch."""

    def life(self) -> Life:
        """Tell whether it lives; `unknown` from another place."""
        if self.place != place():
            return "unknown"
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return "dead"
            return "alive" if abs(process.create_time() - self.started) < _SAME_START_S else "dead"
        except psutil.NoSuchProcess:
            return "dead"

    def words(self) -> str:
        """For a message."""
        return f"process {self.pid} on {self.place.partition('/')[0]}"


def me() -> Holder:
    """This process."""
    return Holder(place(), os.getpid(), psutil.Process().create_time())


def place() -> str:
    """This machine, its boot and this process namespace; the last two where the system tells them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, namespace = f"{psutil.boot_time():.0f}", ""
    return f"{platform.node()}/{boot}/{namespace}"
