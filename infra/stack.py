"""The whole platform on this machine, without containers, on loopback only.

`make stack` starts what is not running and says so when all of it is healthy; `make stack-down` stops it and
keeps its data. `source .needledrop/stack/env` makes `needledrop` use it. Each part writes to `logs/`.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

from flows.errors import ERROR, OK, USAGE, Refusal
from flows.workspace.workspace import find_workspace
from infra import postgres, servers, swift
from infra.part import Part
from infra.ports import Ports, require_free
from infra.state import State, alone, make_state, read_state

START_S = 300.0  # a busy machine; a quiet one needs half a minute


def up(
    folder: Path,
    ports: Ports | None = None,
    worker: bool = True,
    swift_venv: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> State:
    """Start every part that does not run, and return when all are healthy.

    Args:
        folder: where the stack keeps its data, secrets and logs; made at the first start.
        ports: where to listen; default: as last time, at first the usual ones.
        worker: start the Prefect worker too.
        swift_venv: where Swift is or will be installed; default: inside `folder`.
        say: told of each step.

    Raises:
        Refusal: a port is taken, a program is missing, or a part does not become healthy; its log is named.
    """
    folder = folder.resolve()
    with alone(folder):
        before = read_state(folder)
        ports = ports or (before.ports if before else Ports())
        venv = swift_venv or folder / "swift-venv"
        known = parts(before, venv) if before else []
        running = [part.name for part in known if part.process()]
        if before and running and ports != before.ports:
            raise Refusal(f"the stack in {folder} runs at other ports; stop it first: make stack-down")
        for part in known:
            if part.name not in running:
                part.clear()
        serving = {name.replace("-", "_") for name in running}
        require_free(ports, {field.name for field in fields(Ports)} - serving)
        state = make_state(folder, ports)
        _start(state, venv, worker, say)
        state.write_env()
        return state


def down(folder: Path) -> list[str]:
    """Stop what runs, the last started first, and keep all data; return the names of what ran."""
    folder = folder.resolve()
    state = read_state(folder)
    if state is None:
        return []
    with alone(folder):
        stopped = []
        for part in reversed(parts(state, folder / "swift-venv")):
            if part.members():
                part.stop()
                stopped.append(part.name)
        return stopped


def parts(state: State, venv: Path) -> list[Part]:
    """Every part, each after what it needs."""
    return [
        postgres.part(state),
        *swift.parts(state, venv),
        servers.mlflow(state),
        servers.prefect(state),
        servers.worker(state),
    ]


def _start(state: State, venv: Path, worker: bool, say: Callable[[str], None]) -> None:
    say(f"installing and configuring in {state.folder}")
    postgres.initialise(state)
    swift.install(venv)
    swift.configure(state, venv)
    servers.configure(state)
    database, *storage, mlflow, prefect, runner = parts(state, venv)
    deadline = time.monotonic() + START_S
    for part in (database, *storage):
        part.start()
    database.wait_healthy(deadline)
    postgres.make_databases(state)
    say("PostgreSQL is healthy; starting MLflow and Prefect")
    for part in (mlflow, prefect):
        part.start()
    for part in storage:
        part.wait_healthy(deadline)
    swift.make_buckets(state)
    say("S3 is healthy")
    prefect.wait_healthy(deadline)
    say("Prefect is healthy")
    if worker:
        runner.start()
    mlflow.wait_healthy(deadline)
    say("MLflow is healthy")
    for part in (database, *storage, prefect, *([runner] if worker else [])):  # also: none has died meanwhile
        part.wait_healthy(deadline)


def show(state: State, venv: Path) -> int:
    """Print each part's process, memory and health, and the addresses; say whether all are well."""
    well, total = True, 0.0
    for part in parts(state, venv):
        process = part.process()
        problem = part.problem() if process else "stopped"
        memory = part.memory_mib() if process else 0.0
        well, total = well and problem is None, total + memory
        print(f"{part.name:<13} {process.pid if process else '':>8} {memory:>6.0f} MiB  {problem or 'healthy'}")
    print(f"{'together':<13} {'':>8} {total:>6.0f} MiB")
    print(f"\nMLflow      {state.mlflow_url}\nPrefect     {state.prefect_url}\nS3          {state.s3_endpoint}")
    print(f"PostgreSQL  127.0.0.1:{state.ports.postgres}\nlogs        {state.folder / 'logs'}")
    print(f"use it      source {shlex.quote(str(state.env))}")
    return OK if well else ERROR


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("command", choices=("up", "down", "status", "env"))
    parser.add_argument("--folder", type=Path, help="where it keeps its data (default .needledrop/stack)")
    parser.add_argument("--no-worker", action="store_true", help="up: without the Prefect worker")
    for field in fields(Ports):
        option = Ports().option(field.name)
        parser.add_argument(option, type=int, metavar="N", help=f"up: default {field.default}", dest=field.name)
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except Refusal as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted; what was started runs on: make stack-down", file=sys.stderr)
        return ERROR


def _run(arguments: argparse.Namespace) -> int:
    folder = (arguments.folder or find_workspace().state / "stack").resolve()
    if arguments.command == "down":
        stopped = down(folder)
        print(f"stopped: {', '.join(stopped)}; data stay in {folder}" if stopped else "nothing was running")
        return OK
    before = read_state(folder)
    if arguments.command == "up":
        began = time.monotonic()
        chosen = {name: getattr(arguments, name) for name in asdict(Ports()) if getattr(arguments, name)}
        ports = replace(before.ports if before else Ports(), **chosen)
        state = up(folder, ports, not arguments.no_worker, say=lambda line: print(line, flush=True))
        print(f"all healthy after {time.monotonic() - began:.0f} s\n")
        return show(state, folder / "swift-venv") if not arguments.no_worker else OK
    if before is None:
        raise Refusal(f"no stack was started in {folder}: make stack", USAGE)
    if arguments.command == "env":
        print(before.env.read_text(encoding="utf-8"), end="")
        return OK
    return show(before, folder / "swift-venv")


if __name__ == "__main__":
    sys.exit(main())
