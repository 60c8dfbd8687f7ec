"""The command line: `needledrop`. Libraries are imported by the command that needs them."""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.exits import ERROR, OK, Refusal

if TYPE_CHECKING:
    from flows.environment import Environment
    from flows.workspace import Workspace

EPILOG = "exit codes: 0 ok, 1 error, 2 usage or params.yaml, 3 gate failed, 4 inconclusive, 5 busy"

INTERRUPTED = 130  # what a shell reports for Ctrl-C


def parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    root = argparse.ArgumentParser(
        prog="needledrop",
        description="Music recommendation for video: from media files to a registered model.",
        epilog=EPILOG,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=help, description=help, epilog=EPILOG)
        one.add_argument("--json", action="store_true", help="print one JSON document; everything else goes to stderr")
        return one

    doctor = command("doctor", "say what is installed, reachable and free")
    about = doctor.add_mutually_exclusive_group()
    about.add_argument("--params", action="store_true", help="print what every key of params.yaml means")
    about.add_argument("--encoders", action="store_true", help="load each encoder, embed noise, print dims and speed")
    command("scan", "look at a corpus outside the workspace (kind folder or s3), so that a change is seen")
    command("plan", "say which stages would run, on how many rows, and why")
    retrain = command("retrain", "bring every stage up to date and register the model")
    retrain.add_argument("--wait", action="store_true", help="wait for another command in this workspace to end")
    retrain.add_argument("--no-register", action="store_true", help="leave the model registry alone")
    retrain.add_argument("--verbose", action="store_true", help="show Prefect's own log")
    register = command("register", "register the model that the files hold, if it is not registered yet")
    register.add_argument("--wait", action="store_true", help="wait for another command in this workspace to end")
    command("status", "show the last run and the registered models")
    bring = command("import-annotations", "make a folder corpus of a published list of described clips and local media")
    bring.add_argument("--csv", required=True, action="append", type=Path, metavar="FILE",
                       help="video_id,start,end,text, as train.csv and test.csv of YouTube8M-MusicTextClips; repeatable")  # fmt: skip
    bring.add_argument("--media", required=True, type=Path, metavar="FOLDER", help="videos whose names hold their ids")
    bring.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the parts and their list go")
    bring.add_argument("--frozen", type=Path, metavar="FILE", help="keep to the clips of this frozen.json")
    bring.add_argument("--workers", type=_positive, metavar="N", help="threads that cut (default: one per core)")
    blame = command("blame", "show how a clip came by its caption: scores, tags, prompts, answers")
    blame.add_argument("clip", metavar="CLIP", help="a clip id or the beginning of one, a video id, or a path")
    study = command("study", "measure every row of flows/study/study.yaml and write docs/study.md")
    study.add_argument("--wait", action="store_true", help="wait for another command in this workspace to end")
    study.add_argument(
        "--music-videos", metavar="FOLDER", type=Path, help="features of MuVi-Sync, for the part on them"
    )
    recommend = command("recommend", "rank the catalogue for a video, a sentence, or both")
    recommend.add_argument("video", metavar="VIDEO", nargs="?", type=Path, help="any file with pictures in it")
    recommend.add_argument("--text", metavar="SENTENCE", help="what the music should be like")
    recommend.add_argument("-k", type=_positive, default=10, metavar="N", help="how many to show (default 10)")
    recommend.add_argument("--alias", default="champion", help="which registered model (default champion)")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = parser().parse_args(argv)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "doctor": _doctor,
        "scan": _scan,
        "plan": _plan,
        "retrain": _retrain,
        "register": _register,
        "import-annotations": _import_annotations,
        "status": _status,
        "blame": _blame,
        "study": _study,
        "recommend": _recommend,
    }
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return commands[arguments.command](arguments)
    except Refusal as error:
        return _fail(str(error), error.code, arguments.json)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, arguments.json)
    except RuntimeError as error:
        if "ephemeral" not in str(error):
            raise
        return _fail(f"Prefect's temporary server did not start: {error}", ERROR, arguments.json)
    except BrokenPipeError:  # the reader went away, as `head` does
        sys.stderr.close()
        return OK
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename or 'no file'}", ERROR, arguments.json)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int, as_json: bool) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps({"error": message, "code": code}))
    return code


def _emit(value: Any) -> int:
    print(json.dumps(value, indent=2))
    return OK


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up (got {text!r})")
    return number


def _doctor(arguments: argparse.Namespace) -> int:
    from flows import doctor

    if arguments.params:
        keys = doctor.explain_params()
        return _emit(keys) if arguments.json else doctor.show_params(keys)
    if arguments.encoders:
        tried = doctor.try_encoders()
        if not arguments.json:
            return doctor.show_encoders(tried)
        _emit(tried)
        return OK if tried["ok"] else ERROR
    report = doctor.examine()
    return _emit(report) if arguments.json else doctor.show(report)


def _here(verbose: bool = False) -> tuple["Workspace", "Environment"]:
    from flows.environment import prepare
    from flows.workspace import find_workspace

    workspace = find_workspace()
    return workspace, prepare(workspace, verbose)


def _scan(arguments: argparse.Namespace) -> int:
    workspace, _ = _here()
    from flows.lock import hold
    from flows.observe import observe

    with hold(workspace):
        words = observe(workspace) or "the corpus is rendered in the workspace; there is nothing to look at"
    if arguments.json:
        return _emit({"scan": words})
    print(words)
    return OK


def _plan(arguments: argparse.Namespace) -> int:
    workspace, _ = _here()
    from flows import plan

    made = plan.make(workspace)
    return _emit(made) if arguments.json else plan.show(made)


def _retrain(arguments: argparse.Namespace) -> int:
    workspace, environment = _here(arguments.verbose)
    from flows.begin import begin

    # A wrong key or a busy workspace is said at once, not after Prefect's start.
    with begin(workspace, arguments.wait):
        _require_prefect(environment)
        from flows.retrain import retrain

        # While Prefect's server starts, in another process, this one has nothing else to do.
        threading.Thread(target=_import_dvc, daemon=True).start()
        done = retrain(workspace.root, registering=not arguments.no_register, to_stderr=arguments.json)
    return _emit(done.as_json()) if arguments.json else OK


def _require_prefect(environment: "Environment") -> None:
    from flows.environment import redact
    from flows.tracking import connection_problem

    url = environment.prefect_api_url
    if url and (problem := connection_problem(url)):
        raise Refusal(f"Prefect at {redact(url)} does not answer ({problem}); start it, or unset PREFECT_API_URL")


def _import_dvc() -> None:
    with contextlib.suppress(ImportError):  # whoever needs it will say so
        import dvc.repo  # noqa: F401


def _study(arguments: argparse.Namespace) -> int:
    workspace, environment = _here()
    from flows.begin import begin

    with begin(workspace, arguments.wait):
        _require_prefect(environment)
        from flows.study.flow import study

        written = study(workspace.root, arguments.music_videos, to_stderr=arguments.json)
    return _emit(written) if arguments.json else OK


def _register(arguments: argparse.Namespace) -> int:
    workspace, _ = _here()
    from flows.begin import begin

    with begin(workspace, arguments.wait):
        from flows.graph import load_graph
        from flows.register import register

        registration = register(load_graph(workspace.root), workspace)
    if arguments.json:
        return _emit(registration.as_json())
    print(registration.sentence())
    return OK


def _status(arguments: argparse.Namespace) -> int:
    workspace, environment = _here()
    from flows import status

    now = status.look(workspace, environment)
    return _emit(now) if arguments.json else status.show(now)


def _import_annotations(arguments: argparse.Namespace) -> int:
    from flows import import_annotations as bring

    workers = arguments.workers or len(os.sched_getaffinity(0))
    report = bring.import_annotations(arguments.csv, arguments.media, arguments.out, arguments.frozen, workers)
    return _emit(report) if arguments.json else bring.show(report)


def _blame(arguments: argparse.Namespace) -> int:
    workspace, _ = _here()
    from flows import blame

    traced = blame.trace(workspace, arguments.clip)
    return _emit(traced) if arguments.json else blame.show(traced)


def _recommend(arguments: argparse.Namespace) -> int:
    workspace, environment = _here()
    from flows import recommend

    answer = recommend.ask(workspace, environment, arguments.video, arguments.text, arguments.k, arguments.alias)
    return _emit(answer) if arguments.json else recommend.show(answer)


if __name__ == "__main__":
    sys.exit(main())
