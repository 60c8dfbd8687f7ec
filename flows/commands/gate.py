"""Commands that hold models against each other: the gate of a promotion, and any two versions or runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.common import AddCommand, emit, here, positive, require_prefect, wait_option
from flows.errors import OK, VERDICT_CODES

if TYPE_CHECKING:
    from flows.gate.run import GateResult


def add(command: AddCommand) -> None:
    """Add the commands of this topic."""
    gate = command("gate", "hold a model version against the champion: passed, failed (3) or inconclusive (4)", _gate)
    gate.add_argument("version", metavar="VERSION", nargs="?", type=positive, help="default: the challenger")
    wait_option(gate)
    compare = command("compare", "compare two model versions or MLflow runs, on one page", _compare)
    compare.add_argument("a", metavar="A", help="number of a model version, or id of an MLflow run")
    compare.add_argument("b", metavar="B", help="what A is held against")
    compare.add_argument("--out", metavar="FILE", type=Path, help="default: .needledrop/reports/compare-A-B.html")


def _gate(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.workspace.lock import hold

    with hold(platform.workspace, arguments.wait):
        require_prefect(platform.environment)
        from flows.gate.flow import gate

        result = gate(platform.workspace.root, arguments.version)
    from flows.release.announce import tell_verdict

    words = f"{result.words.headline}. {result.words.found}"
    tell_verdict(platform, result.version, result.verdict, words, result.evidence)
    if arguments.json:
        emit(result.as_json())
    else:
        _show(result)
    return VERDICT_CODES[result.verdict]


def _show(result: "GateResult") -> None:
    from rich.markup import escape

    from flows.workspace.console import console, table

    out = console()
    out.print(f"{result.verdict.upper()}: {result.words.headline}", markup=False, soft_wrap=True)
    for said in filter(None, (result.words.found, result.words.next)):
        out.print(said, markup=False, soft_wrap=True)
    rows = table("check", "found", "limit", "outcome")
    for check in result.checks:
        rows.add_row(*map(escape, (check.asks, check.found, check.limit, check.outcome)))
    out.print(rows)
    again = " (gated before on the same data; nothing was computed anew)" if result.known else ""
    out.print(f"report: {result.page}{again}", markup=False, soft_wrap=True)


def _compare(arguments: argparse.Namespace) -> int:
    platform = here()
    from flows.gate.compare import compare

    done = compare(platform, arguments.a, arguments.b, arguments.out)
    if arguments.json:
        return emit(done.as_json())
    print(done.sentence())
    return OK
