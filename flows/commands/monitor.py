"""The command that looks at new media."""

import argparse
import sys

from flows.commands.common import AddCommand, emit, here, require_prefect, wait_option
from flows.errors import ERROR, GATE_FAILED, OK


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    monitor = command("monitor", "compare new media with what the champion was made from", _monitor)
    wait_option(monitor)
    monitor.add_argument(
        "--dry-run", action="store_true", help="write the page only: no record, no message, no retrain"
    )
    monitor.add_argument("--no-retrain", action="store_true", help="report drift, and start nothing")
    monitor.add_argument("--fail-on-drift", action="store_true", help=f"exit with {GATE_FAILED} when there is drift")


def _monitor(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.workspace.begin import begin

    with begin(platform.workspace, arguments.wait):
        require_prefect(platform.environment)
        from flows.monitor import monitor

        result = monitor(
            platform.workspace.root,
            retraining=not arguments.no_retrain,
            dry_run=arguments.dry_run,
            to_stderr=arguments.json,
        )
    if arguments.json:
        emit(result.as_json())
    elif result.page:
        print(f"report: {result.page}")
    if result.outcome == "refused":
        print(f"error: {result.words}", file=sys.stderr)
        return ERROR
    return GATE_FAILED if result.outcome == "drift" and arguments.fail_on_drift else OK
