"""Commands that compute: the pipeline, its registration, the study."""

import argparse
import contextlib
import sys
import threading
from pathlib import Path

from flows.commands.common import AddCommand, emit, here, require_prefect, wait_option
from flows.errors import OK, Refusal


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

    # A wrong key or a busy workspace is said at once, not after Prefect's start.
    with begin(platform.workspace, arguments.wait):
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
    return emit(done.as_json()) if arguments.json else OK


def _register(arguments: argparse.Namespace) -> int:
    platform = here()
    workspace = platform.workspace
    from flows.workspace.begin import begin

    with begin(workspace, arguments.wait):
        from flows.registration.register import register
        from flows.workspace.graph import load_graph

        registration = register(load_graph(workspace.root), platform)
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
