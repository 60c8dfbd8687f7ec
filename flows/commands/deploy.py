"""Commands that put the platform to work: deployments and workers."""

import argparse
import os
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from flows.commands.common import AddCommand, emit, here
from flows.errors import OK, Refusal

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    deploy = command("deploy", "create or update the work pools and deployments of prefect.yaml", _deploy)
    deploy.add_argument("--retrain-cron", metavar="CRON", help="another schedule for retrain, e.g. '*/5 * * * *'")
    deploy.add_argument("--jitter", type=_seconds, metavar="SECONDS", help="another jitter for retrain (0: none)")
    worker = command("worker", "clear up after dead runs, then run what the work pool has, until Ctrl-C", _worker)
    worker.add_argument("--pool", default="needledrop-cpu", metavar="NAME", help="work pool (default needledrop-cpu)")
    worker.add_argument("--name", metavar="NAME", help="what Prefect's page calls it, before @ and the machine's name")


def _seconds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of seconds from 0 up (got {text!r})")
    return int(text)


def _deploy(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.deploy import idle
    from flows.deploy.apply import deploy
    from flows.deploy.entries import read_deployments

    done = deploy(
        platform.environment, read_deployments(platform.workspace.root, arguments.retrain_cron, arguments.jitter)
    )
    if arguments.json:
        return emit([asdict(item) for item in done])
    width = max(len(item.name) for item in done)
    for item in done:
        print(f"{item.name:<{width}}  {item.what:<9}  {f'next run {item.next_run}' if item.next_run else ''}".rstrip())
    for words in idle.reasons(platform.environment):
        print(f"note: {words}")
    return OK


def _worker(arguments: argparse.Namespace) -> int:
    from flows.environment import PATIENT

    for name, value in PATIENT.items():  # its runs inherit them
        os.environ.setdefault(name, value)
    from flows.workspace.platform import Platform

    workspace = Platform.prepared(_own_folder(), verbose=True).workspace
    from flows.deploy.apply import ensure_pool
    from flows.deploy.checkout import shared
    from flows.environment import read_environment
    from flows.ledger.attempts import alone, reap, worker_name

    # Where nothing else is said, runs clone this project, and beside its other state.
    os.environ.setdefault("NEEDLEDROP_SOURCE", str(workspace.root))
    os.environ.setdefault("NEEDLEDROP_CHECKOUTS", str(workspace.state / "checkouts"))
    environment = shared(read_environment())
    ensure_pool(environment, arguments.pool)
    assert environment.checkouts is not None  # noqa: S101 - `shared` has seen to it
    idle = arguments.pool if alone(environment.checkouts, arguments.pool) else None
    for run in reap(Platform(workspace, environment), idle):
        print(f"run {run} had died: marked crashed, its leases are free", flush=True)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", arguments.pool]
    command += ["--name", worker_name(arguments.name)]
    # A shell that starts us in the background ignores SIGINT for all it starts; Prefect's worker stops by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.execv(command[0], command)  # noqa: S606 - signals go to Prefect's worker itself


def _own_folder() -> "Workspace":
    """The project around the current folder; without one, as in a container, the folder that holds the workspaces of runs.

    Raises:
        Refusal: there is neither.
    """
    from flows.environment import read_environment
    from flows.workspace.workspace import Workspace, find_workspace

    try:
        return find_workspace()
    except Refusal as error:
        environment = read_environment()
        if environment.source and environment.checkouts:
            folder = Workspace(environment.checkouts.resolve())
            folder.state.mkdir(parents=True, exist_ok=True)  # Prefect makes the last folder of its home only
            return folder
        raise Refusal(f"{error}, or set NEEDLEDROP_SOURCE and NEEDLEDROP_CHECKOUTS", error.code) from None
