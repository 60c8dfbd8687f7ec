"""What a person sees while a retrain runs, and at its end."""

import threading
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.text import Text

from flows.workspace.console import console, table
from flows.workspace.run_stage import StageResult

_STYLE = {"ran": "green", "restored": "cyan", "skipped": "dim"}


class Terminal:
    """Plain lines while stages run (they may run side by side), tables at the end."""

    def __init__(self, to_stderr: bool = False) -> None:
        """Write to standard error where standard output is for JSON."""
        self._console = console(to_stderr)
        self._guard = threading.Lock()

    def say(self, line: str) -> None:
        """Show one line of our own."""
        with self._guard:
            self._console.print(line, markup=False, soft_wrap=True)

    def start(self, stage: str, reasons: Sequence[str]) -> None:
        """Say that a stage starts, and why."""
        why = "; ".join(reasons) or "what it reads may have changed"
        with self._guard:
            self._console.print(Text.assemble((f"{stage:>20} ", "bold"), (f"> {why}", "dim")), soft_wrap=True)

    def stage_line(self, stage: str, line: str) -> None:
        """Show one line of a stage's output."""
        with self._guard:
            self._console.print(Text.assemble((f"{stage:>20} ", "bold blue"), ("| ", "dim"), line), soft_wrap=True)

    def stages(self, results: Sequence[StageResult]) -> None:
        """Show what became of every stage."""
        if not results:
            return
        rows = table("stage", "outcome", "seconds", "what it did", right=("seconds",))
        for result in results:
            seconds = f"{result.seconds:.1f}" if result.log else ""
            rows.add_row(result.name, Text(result.outcome, _STYLE[result.outcome]), seconds, escape(result.report))
        logs = sorted({result.log.rpartition("/")[0] for result in results if result.log})
        with self._guard:
            self._console.print()
            self._console.print(rows)
            if logs:
                self._console.print(f"\nlogs: {', '.join(logs)}", markup=False)

    def metrics(self, headline: dict[str, Any] | None) -> None:
        """Show the retrieval metrics that decide."""
        if headline is None:
            return
        figures = ("R@10", "95 % interval", "x chance", "of the oracle", "median rank")
        rows = table("query", *figures, right=figures)
        for row in headline["modes"]:
            rows.add_row(
                row["mode"],
                f"{row['value']:.3f}",
                f"{row['low']:.3f} to {row['high']:.3f}",
                f"{row['times_chance']:.1f}",
                "" if row["of_oracle"] is None else f"{row['of_oracle']:.2f}",
                "" if row["median_rank"] is None else f"{row['median_rank']:g}",
            )
        with self._guard:
            self._console.print(
                f"\nvideo to music, {headline['queries']} queries over a pool of {headline['pool']} tracks; "
                f"chance R@10 is {headline['chance']:.3f}"
            )
            self._console.print(rows)
