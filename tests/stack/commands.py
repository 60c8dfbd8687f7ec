"""Runs commands beside the test, as a user of the stack, and lets servers stumble meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from infra.part import Part
from infra.stack import parts, up
from infra.state import State
from tests.stack.conftest import SWIFT


def start(words: list[str], cwd: Path, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """Start a Python command."""
    return subprocess.Popen(
        [sys.executable, *words], cwd=cwd, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]", within_s: float = 400.0) -> str:
    """Wait for its good end and return what it said."""
    said, _ = process.communicate(timeout=within_s)
    assert process.returncode == 0, said
    return said


def said(process: "subprocess.Popen[str]", beginning: str) -> str:
    """Read on until a line that begins so, and return it: a moment of the operation."""
    assert process.stdout is not None
    heard = []
    for line in process.stdout:
        heard.append(line)
        if line.startswith(beginning):
            return line.strip()
    raise AssertionError("".join(heard))


def needledrop(*words: str) -> list[str]:
    """The command line of `needledrop`."""
    return ["-m", "flows.cli", *words]


def part(state: State, name: str) -> Part:
    """One part of the stack."""
    return next(one for one in parts(state, SWIFT) if one.name == name)


def until(true: Callable[[], bool], within_s: float = 120.0) -> None:
    """Wait for a moment of the operation."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.02)


@contextmanager
def away(state: State, how: str, *names: str) -> Iterator[None]:
    """Let parts hang, or die, while the body runs; then they are back and healthy."""
    if how == "hangs":
        with ExitStack() as all_of_them:
            for name in names:
                all_of_them.enter_context(suspended(part(state, name)))
            yield
        return
    for name in names:
        kill(part(state, name))
    try:
        yield
    finally:
        up(state.folder, worker=False, swift_venv=SWIFT)


@contextmanager
def suspended(one: Part) -> Iterator[None]:
    """Let a part hang: connections are accepted, nothing answers."""
    members = one.members()
    for process in members:
        process.suspend()
    try:
        yield
    finally:
        for process in members:
            process.resume()


def kill(one: Part) -> None:
    """Let a part die at once, with all it started."""
    process = one.process()
    assert process is not None
    for member in reversed(one.members()):
        with suppress(ProcessLookupError):  # its parent's end was enough
            os.kill(member.pid, signal.SIGKILL)
    process.wait(20)
