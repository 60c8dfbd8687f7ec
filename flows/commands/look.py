"""Commands that look: at the machine, the workspace, a clip."""

import argparse
import os
from pathlib import Path

from flows.commands.common import AddCommand, emit, here, positive
from flows.errors import ERROR, OK


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    doctor = command("doctor", "say what is installed, reachable and free", _doctor)
    about = doctor.add_mutually_exclusive_group()
    about.add_argument("--params", action="store_true", help="print what every key of params.yaml means")
    about.add_argument("--encoders", action="store_true", help="load each encoder, embed noise, print dims and speed")
    command("scan", "look at a corpus outside the workspace (kind folder or s3), so that a change is seen", _scan)
    command("plan", "say which stages would run, on how many rows, and why", _plan)
    command("status", "show the last run and the registered models", _status)
    blame = command("blame", "show how a clip came by its caption: scores, tags, prompts, answers", _blame)
    blame.add_argument("clip", metavar="CLIP", help="a clip id or the beginning of one, a video id, or a path")
    bring = command(
        "import-annotations",
        "make a folder corpus of a published list of described clips and local media",
        _import_annotations,
    )
    bring.add_argument("--csv", required=True, action="append", type=Path, metavar="FILE",
                       help="video_id,start,end,text, as train.csv and test.csv of YouTube8M-MusicTextClips; repeatable")  # fmt: skip
    bring.add_argument("--media", required=True, type=Path, metavar="FOLDER", help="videos whose names hold their ids")
    bring.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the parts and their list go")
    bring.add_argument("--frozen", type=Path, metavar="FILE", help="keep to the clips of this frozen.json")
    bring.add_argument("--workers", type=positive, metavar="N", help="threads that cut (default: one per core)")


def _doctor(arguments: argparse.Namespace) -> int:
    from flows.commands import doctor

    if arguments.params:
        keys = doctor.explain_params()
        return emit(keys) if arguments.json else doctor.show_params(keys)
    if arguments.encoders:
        tried = doctor.try_encoders()
        if not arguments.json:
            return doctor.show_encoders(tried)
        emit(tried)
        return OK if tried["ok"] else ERROR
    report = doctor.examine()
    return emit(report) if arguments.json else doctor.show(report)


def _scan(arguments: argparse.Namespace) -> int:
    workspace = here().workspace
    from flows.workspace.lock import hold
    from flows.workspace.observe import observe

    with hold(workspace):
        words = observe(workspace) or "the corpus is rendered in the workspace; there is nothing to look at"
    if arguments.json:
        return emit({"scan": words})
    print(words)
    return OK


def _plan(arguments: argparse.Namespace) -> int:
    workspace = here().workspace
    from flows.workspace import plan

    made = plan.make(workspace)
    return emit(made) if arguments.json else plan.show(made)


def _status(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.commands import status

    now = status.overview(platform)
    return emit(now) if arguments.json else status.show(now)


def _blame(arguments: argparse.Namespace) -> int:
    workspace = here().workspace
    from flows.commands import blame

    traced = blame.trace(workspace, arguments.clip)
    return emit(traced) if arguments.json else blame.show(traced)


def _import_annotations(arguments: argparse.Namespace) -> int:
    from flows.annotations import importing as bring

    workers = arguments.workers or len(os.sched_getaffinity(0))
    report = bring.import_annotations(arguments.csv, arguments.media, arguments.out, arguments.frozen, workers)
    return emit(report) if arguments.json else bring.show(report)
