"""What a retrain would do, without doing it."""

import contextlib
from pathlib import Path
from typing import Any

from rich.markup import escape

from components.params import Params
from flows.errors import OK
from flows.workspace.begin import check
from flows.workspace.console import console, table
from flows.workspace.graph import Graph, Stage, load_graph
from flows.workspace.observe import is_outside
from flows.workspace.workspace import Workspace

# Where the rows of a row-level stage come from, and where the finished ones are: its own arguments.
_ROWS = (("rows", "store"), ("manifest", "tags"), ("manifest", "captions"))


def make(workspace: Workspace) -> dict[str, Any]:
    """Return every stage with what would happen to it and why.

    Raises:
        Refusal: params.yaml is wrong, or DVC is busy.
    """
    params = check(workspace)
    graph = load_graph(workspace.root)
    stages = [
        {
            "name": stage.name,
            "description": stage.description,
            "runs": stage.name in graph.pending,
            "why": list(graph.pending.get(stage.name, ())),
            "rows": count_rows(graph, stage, workspace.root) if stage.name in graph.pending else "",
        }
        for stage in graph.stages
    ]
    asked = next((stage for stage in graph.stages if "completions" in stage.arguments), None)
    cost = count_cost(graph, asked, params, workspace.root) if asked and asked.name in graph.pending else None
    note = "the corpus itself was not looked at; `needledrop scan` does that" if is_outside(workspace) else ""
    return {"stages": stages, "pending": len(graph.pending), "captions": cost, "note": note}


def count_rows(graph: Graph, stage: Stage, root: Path) -> str:
    """Say how many rows a row-level stage would compute, as far as can be known before it runs."""
    for source, result in _ROWS:
        if source in stage.arguments and stage.arguments.get(result) in stage.outputs:
            before = _writer(graph, stage.argument(source))
            if before in graph.pending:
                return f"known after {before}"
            wanted = _ids(root / stage.argument(source))
            if wanted is None:
                return "unknown"
            # Changed code or params may change every row; the stage itself decides by content.
            done = _ids(root / stage.argument(result)) or set()
            missing = len(wanted - done)
            return f"{missing} new of {len(wanted)}" if missing or not done else f"up to {len(wanted)}, none is new"
    return ""


def count_cost(graph: Graph, stage: Stage, params: Params, root: Path) -> dict[str, Any]:
    """Say what a language model would be asked, before it is paid for; in `said` where that cannot be known yet."""
    late = [
        writer
        for name in ("manifest", "tags", "annotated")
        if (writer := _writer(graph, stage.argument(name))) in graph.pending
    ]
    if late:
        return {"said": f"known after {', '.join(sorted({str(name) for name in late}))}"}
    from components.captioning.cost import estimate

    names = ("manifest", "tags", "annotated", "taxonomy", "captions", "completions")
    try:
        with contextlib.chdir(root):  # the model's folder is named from there
            cost = estimate(params.captioning, *(stage.argument(name) for name in names))
    except ValueError as error:
        return {"said": str(error)}
    return cost.as_json() | {"said": cost.sentence()}


def _writer(graph: Graph, path: Path) -> str | None:
    return next((stage.name for stage in graph.stages if str(path) in stage.outputs), None)


def _ids(path: Path) -> set[str] | None:
    """The clip ids of a table, or of a feature store's index; None where there is none."""
    import pyarrow.parquet as pq

    table = path / "index.parquet" if path.is_dir() else path
    if not table.is_file():
        return None
    return set(pq.ParquetFile(table).read(columns=["clip_id"]).column("clip_id").to_pylist())


def show(made: dict[str, Any]) -> int:
    """Print the plan."""
    out = console()
    if made["note"]:
        out.print(made["note"])
    if not made["pending"]:
        out.print(f"nothing to do: all {len(made['stages'])} stages are up to date")
        return OK
    rows = table("stage", "", "rows", "why")
    for stage in made["stages"]:
        what = "[green]would run[/]" if stage["runs"] else "[dim]unchanged[/]"
        rows.add_row(stage["name"], what, stage["rows"], escape("\n".join(stage["why"])))
    out.print(rows)
    if made["captions"]:
        out.print(f"captions: {escape(made['captions']['said'])}")
    return OK
