"""Time methods in turns within one run, and print them as ratios to the first."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def in_turns(methods: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return (CPU seconds, wall seconds) of each method in each round; one round before warms up.

    Methods take turns, and each round starts with another, so that whatever else the machine does meets them all.
    """
    names = list(methods)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            cpu, wall = time.process_time(), time.perf_counter()
            methods[name]()
            spent = time.process_time() - cpu, time.perf_counter() - wall
            if number:
                seconds[name].append(spent)
    return seconds


def ratios(seconds: Mapping[str, list[tuple[float, float]]], goals: Mapping[str, float]) -> bool:
    """Print each method's speed as a share of the first one's, by CPU (the goal's) and by wall clock.

    A share is the median of the rounds' shares. Return whether every goal is reached.
    """
    limit, *others = seconds
    cpu_ms, wall_ms = (statistics.median(spent[at] for spent in seconds[limit]) * 1e3 for at in (0, 1))
    width = max(map(len, seconds)) + 2
    print(f"  {limit:{width}} {cpu_ms:10.3f} ms CPU {wall_ms:10.3f} ms wall   = 1")
    reached = True
    for name in others:
        cpu, wall = (
            statistics.median(
                most[at] / max(own[at], 1e-9) for most, own in zip(seconds[limit], seconds[name], strict=True)
            )
            for at in (0, 1)
        )
        own_ms = [statistics.median(spent[at] for spent in seconds[name]) * 1e3 for at in (0, 1)]
        verdict = ""
        if name in goals:
            reached &= cpu >= goals[name]
            verdict = f"   goal {goals[name]:.2f} by CPU: {'reached' if cpu >= goals[name] else 'NOT REACHED'}"
        print(
            f"  {name:{width}} {own_ms[0]:10.3f} ms CPU {own_ms[1]:10.3f} ms wall   = {cpu:.2f} CPU, {wall:.2f} wall{verdict}"
        )
    return reached
