"""Commands that compute: the pipeline, its registration, the study."""

import argparse
import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import AddCommand, emit, here, require_prefect, wait_option
from flows.errors import OK, VERDICT_CODES, Refusal

if TYPE_CHECKING:
    from flows.workspace.platform import Platform
    from flows.workspace.runs import Run


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    retrain = command("retrain", "bring every stage up to date and register the model", _retrain)
    wait_option(retrain)
    retrain.add_argument("--no-register", action="store_true", help="leave the model registry alone")
    retrain.add_argument("--no-gate", action="store_true", help="register without a verdict")
    retrain.add_argument("--verbose", action="store_true", help="show Prefect's own log")
    wait_option(command("register", "register the model that the files hold, if it is not registered yet", _register))
    study = command("study", "measure every row of research/study.yaml and write docs/study.md", _study)
    wait_option(study)
    study.add_argument(
        "--music-videos", metavar="FOLDER", type=Path, help="features of MuVi-Sync, for the part on them"
    )


def _retrain(arguments: argparse.Namespace) -> int:
    platform = here(arguments.verbose)
    from flows.workspace.begin import begin

    # A wrong key, a busy workspace, or that there is nothing to do is said at once, not after Prefect's start.
    with begin(platform.workspace, arguments.wait) as run:
        if (idle := _nothing_to_do(platform, run, arguments)) is not None:
            code = VERDICT_CODES[idle["verdict"]] if idle["verdict"] else OK
            if arguments.json:
                emit(idle)
            return code
        require_prefect(platform.environment)
        from flows.retrain import retrain

        # While Prefect's server starts, in another process, this one has nothing else to do.
        threading.Thread(target=_import_dvc, daemon=True).start()
        done = retrain(
            platform.workspace.root,
            registering=not arguments.no_register,
            gating=not arguments.no_gate,
            to_stderr=arguments.json,
        )
    if arguments.json:
        emit(done.as_json())
    return done.code


def _nothing_to_do(platform: "Platform", run: "Run", arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Say that a retrain would change nothing, and how things stand; None where it has something to do.

    The same values as the flow's, without its record in Prefect: nothing ran that could be looked at there.
    """
    from flows.workspace.graph import load_graph
    from flows.workspace.observe import Unanswered, is_outside, observe
    from flows.workspace.results import headline
    from flows.workspace.run_stage import unchanged
    from flows.workspace.terminal import Terminal

    terminal, known, observed, state = Terminal(arguments.json), None, None, None
    if is_outside(platform.workspace):
        try:
            observed = observe(platform.workspace)
        except Unanswered:  # the flow asks again, with pauses
            return None
    graph = load_graph(platform.workspace.root)
    if graph.pending:
        return None
    if not arguments.no_register:
        from flows.registration.register import can_register, remembered, stands, state_of
        from flows.release.states import UNDECIDED, VERDICTS

    if not arguments.no_register and can_register(graph):
        known = remembered(graph, platform)
        if known is None:
            return None
        state = None if arguments.no_gate else state_of(platform, known.version)
        if state in UNDECIDED:
            return None
    if observed:
        terminal.say(observed)
    terminal.say(f"nothing to do: all {len(graph.stages)} stages are up to date")
    metrics = headline(graph)
    terminal.metrics(metrics)
    if known is not None:
        terminal.say("\n" + known.sentence())
        if state is not None:
            terminal.say(stands(known.version, state))
    done = {
        "run": run.id,
        "stages": [unchanged(stage.name).row() for stage in graph.stages],
        "metrics": metrics,
        "registration": known.as_json() if known else None,
        "gate": None,
        "verdict": state if state is not None and state in VERDICTS else None,
        "refusal": None,
    }
    run.finish("finished", **done)
    return done


def _register(arguments: argparse.Namespace) -> int:
    platform = here()
    workspace = platform.workspace
    from flows.workspace.begin import begin

    with begin(workspace, arguments.wait):
        from flows.registration.current import Held, require_made
        from flows.registration.register import can_register, register
        from flows.workspace.graph import load_graph

        held, graph = Held(workspace), load_graph(workspace.root)
        if can_register(graph):
            require_made(graph)
        registration = register(graph, platform, held)
    if arguments.json:
        return emit(registration.as_json())
    print(registration.sentence())
    return OK


def _study(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.workspace.begin import begin

    with begin(platform.workspace, arguments.wait):
        require_prefect(platform.environment)
        if not (platform.workspace.root / "research").is_dir():
            raise Refusal("the study is run from a checkout of the project: there is no research/ here")
        sys.path.insert(0, str(platform.workspace.root))  # research/ is no part of what is installed
        from research.flow import study

        written = study(platform.workspace.root, arguments.music_videos, to_stderr=arguments.json)
    return emit(written) if arguments.json else OK


def _import_dvc() -> None:
    with contextlib.suppress(ImportError):  # whoever needs it will say so
        import dvc.repo  # noqa: F401
