"""What a person sees while a retrain runs, and at its end."""

import threading
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.run_stage import StageResult

_STYLE = {"ran": "green", "restored": "cyan", "skipped": "dim"}


class Terminal:
    """Plain lines while stages run (they may run side by side), tables at the end."""

    def __init__(self, to_stderr: bool = False) -> None:
        """Write to standard error where standard output is for JSON."""
        self._console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
        self._guard = threading.Lock()

    def say(self, line: str) -> None:
        """Show one line of our own."""
        with self._guard:
            self._console.print(line, markup=False)

    def start(self, stage: str, reasons: Sequence[str]) -> None:
        """Say that a stage starts, and why."""
        why = "; ".join(reasons) or "what it reads may have changed"
        with self._guard:
            self._console.print(Text.assemble((f"{stage:>20} ", "bold"), (f"> {why}", "dim")))

    def stage_line(self, stage: str, line: str) -> None:
        """Show one line of a stage's output."""
        with self._guard:
            self._console.print(Text.assemble((f"{stage:>20} ", "bold blue"), ("| ", "dim"), line))

    def stages(self, results: Sequence[StageResult]) -> None:
        """Show what became of every stage."""
        if not results:
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("stage")
        table.add_column("outcome")
        table.add_column("seconds", justify="right")
        table.add_column("what it did", overflow="fold")
        for result in results:
            seconds = f"{result.seconds:.1f}" if result.log else ""
            table.add_row(result.name, Text(result.outcome, _STYLE[result.outcome]), seconds, escape(result.report))
        logs = sorted({result.log.rpartition("/")[0] for result in results if result.log})
        with self._guard:
            self._console.print()
            self._console.print(table, soft_wrap=False)
            if logs:
                self._console.print(f"\nlogs: {', '.join(logs)}", markup=False)

    def metrics(self, headline: dict[str, Any] | None) -> None:
        """Show the retrieval metrics that decide."""
        if headline is None:
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("query", "R@10", "95 % interval", "x chance", "of the oracle", "median rank"):
            table.add_column(column, justify="left" if column == "query" else "right")
        for row in headline["modes"]:
            table.add_row(
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
            self._console.print(table, soft_wrap=False)
