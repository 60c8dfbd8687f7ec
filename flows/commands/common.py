"""What every topic of the command line needs."""

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from flows.errors import OK, Refusal

if TYPE_CHECKING:
    from flows.environment import Environment
    from flows.workspace.platform import Platform

Run = Callable[[argparse.Namespace], int]


class AddCommand(Protocol):
    """Adds a command to the parser; a topic gives its arguments to what is returned."""

    def __call__(self, name: str, help: str, run: Run) -> argparse.ArgumentParser:
        """Return the parser of the new command; `run` gets its arguments and returns the exit code."""


def emit(value: Any) -> int:
    """Print one JSON document."""
    print(json.dumps(value, indent=2))
    return OK


def positive(text: str) -> int:
    """A whole number from 1 up, as an argument's type."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up (got {text!r})")
    return number


def wait_option(command: argparse.ArgumentParser) -> None:
    """Add `--wait`, for commands that change the workspace."""
    command.add_argument("--wait", action="store_true", help="wait for another command in this workspace to end")


def here(verbose: bool = False) -> "Platform":
    """The platform around the current folder, prepared for the libraries."""
    from flows.workspace.platform import Platform
    from flows.workspace.workspace import find_workspace

    return Platform.prepared(find_workspace(), verbose)


def require_prefect(environment: "Environment") -> None:
    """Refuse at once where a Prefect server is named and does not answer.

    Raises:
        Refusal: it does not; the message names it.
    """
    from flows.environment import redact
    from flows.registry.tracking import connection_problem

    url = environment.prefect_api_url
    if url and (problem := connection_problem(url)):
        raise Refusal(f"Prefect at {redact(url)} does not answer ({problem}); start it, or unset PREFECT_API_URL")
