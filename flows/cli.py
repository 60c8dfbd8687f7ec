"""The command line: `needledrop`. Each topic adds its commands; see flows/commands."""

import argparse
import errno
import json
import signal
import sys
from collections.abc import Sequence

from flows.commands import ask, compute, deploy, gate, lineage, look, monitor, release, share
from flows.commands.common import Run
from flows.errors import ERROR, USAGE, Refusal
from flows.streams import lost, steady

EPILOG = "exit codes: 0 ok, 1 error, 2 usage or params.yaml, 3 gate failed, 4 inconclusive, 5 busy"

INTERRUPTED = 130  # what a shell reports for Ctrl-C
TOPICS = (look, compute, ask, lineage, deploy, release, share, monitor, gate)


def parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    root = argparse.ArgumentParser(
        prog="needledrop",
        description="Music recommendation for video: from media files to a registered model.",
        epilog=EPILOG,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, run: Run) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=help, description=help, epilog=EPILOG)
        one.add_argument("--json", action="store_true", help="print one JSON document; everything else goes to stderr")
        one.set_defaults(run=run)
        return one

    for topic in TOPICS:
        topic.add(command)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Output that cannot be written stops no command. Where it was lost the code says so, and a line on standard error that the
    command itself is done.
    """
    steady()
    try:
        code = _main(argv)
    except SystemExit as stop:  # of the parser, which has said what is wrong, or its help
        code = stop.code if isinstance(stop.code, int) else ERROR
    if why := lost():
        print(f"error: standard output could not be written ({why}); {_ENDED[bool(code)]}", file=sys.stderr, flush=True)
    return code or (ERROR if why else code)


_ENDED = {
    False: "the command itself is done, and what it changes is changed",
    True: "what the command came to is told by its exit code",
}


def _main(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        _check_text(arguments)
        code: int = arguments.run(arguments)
        return code
    except Refusal as error:
        return _fail(str(error), error.code, arguments.json)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, arguments.json)
    except RuntimeError as error:
        if "ephemeral" not in str(error):
            raise
        return _fail(f"Prefect's temporary server did not start: {error}", ERROR, arguments.json)
    except OSError as error:
        return _fail(_said(error), ERROR, arguments.json)


def _said(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    free = "; free some, `needledrop doctor` says how much there is" if error.errno == errno.ENOSPC else ""
    return f"{error.strerror or error}{where}{free}"


def _check_text(arguments: argparse.Namespace) -> None:
    """Refuse what no database, model or page would take: bytes that are no text in this machine's encoding."""
    for name, value in vars(arguments).items():
        for one in value if isinstance(value, list) else [value]:
            try:
                str(one).encode()
            except UnicodeEncodeError as error:
                where = f"{str(one)!a}, at letter {error.start + 1}"
                raise Refusal(f"{name}: no {sys.getfilesystemencoding()} text ({where})", USAGE) from None


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int, as_json: bool) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps({"error": message, "code": code}))
    return code


if __name__ == "__main__":
    sys.exit(main())
