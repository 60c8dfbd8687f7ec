"""`needledrop purge --plan`: what the removal of a track would rebuild and retire. It changes nothing."""

from typing import Any

from flows.errors import OK, USAGE, Refusal
from flows.lineage.saw import said, show_track, touched, who_saw
from flows.lineage.written import written_table
from flows.release.clips import SEED
from flows.workspace.console import console, table
from flows.workspace.graph import Graph, Stage, load_graph
from flows.workspace.platform import Platform
from flows.workspace.runs import read_runs
from flows.workspace.workspace import Workspace

# Arguments that name the output of a stage that computes missing rows only.
_ROW_LEVEL = ("store", "tags", "captions")
# Arguments of a stage that knows its files from the last run, and only writes their tables again.
_KNOWN = ("cache", "media")


def plan(platform: Platform, name: str, planned: bool) -> dict[str, Any]:
    """Return what a removal would rebuild, from what holds the track.

    Args:
        platform: says where registry and ledger are.
        name: a track, clip or video id, or the beginning of one.
        planned: must be true; there is no other way yet.

    Raises:
        Refusal: without `planned`; or as `who_saw`.
    """
    if not planned:
        raise Refusal("purge removes nothing by itself; say `needledrop purge --plan TRACK` and follow the plan", USAGE)
    seen = who_saw(platform, name)
    graph = load_graph(platform.workspace.root)
    versions = [version | {"held": said(version)} for version in seen["versions"]]
    steps = _stages(graph, platform.workspace, seen)
    known = [step["seconds"] for step in steps if step["seconds"] is not None]
    return {
        "track": seen["track"],
        "remove": seen["track"]["uris"],
        "rows": {found["path"]: found["rows"] for found in seen["workspace"]["files"] if found["rows"]},
        "stages": steps,
        "captions_again": len(seen["workspace"]["exemplar_for"]),
        "seconds": round(sum(known), 1),
        "untimed": [step["name"] for step in steps if step["seconds"] is None],
        "copies": _copies(graph, platform.workspace, seen["track"]["uris"]),
        "retire": [version for version in versions if touched(version)],
        "clean": [version["version"] for version in versions if not touched(version)],
        "unknown": seen["unknown"],
    }


def _stages(graph: Graph, workspace: Workspace, seen: dict[str, Any]) -> list[dict[str, Any]]:
    """Each stage that would run: what of it, and how long its last whole run took."""
    first = {found["stage"] for found in seen["workspace"]["files"]}
    again: set[str] = set()
    steps = []
    tagger = any(clip["split"] == SEED for clip in seen["workspace"]["clips"])
    for stage in graph.stages:
        if stage.name not in first and not again & set(stage.parents):
            continue
        again.add(stage.name)
        rows, share = _share(workspace, stage, len(seen["workspace"]["exemplar_for"]), tagger)
        last = _seconds(workspace, stage.name)
        steps.append({"name": stage.name, "what": rows, "seconds": None if last is None else round(last * share, 1)})
    return steps


def _share(workspace: Workspace, stage: Stage, captions: int, tagger: bool) -> tuple[str, float]:
    """Say what a stage would compute again, and which share of its whole work that is."""
    result = next((path for name in _ROW_LEVEL if (path := stage.arguments.get(name, "")) in stage.outputs), None)
    if set(_KNOWN) & set(stage.arguments):
        return "its tables; the other files are known", 0.0
    if result is None:
        return "the whole stage", 1.0
    if tagger and any(name.startswith("seed") for name in stage.arguments):
        return "every row: its tagger is fitted anew", 1.0
    total = _count(workspace, result)
    # Captions whose prompts showed the track are written again, and their text features computed.
    of_captions = "captions" in stage.arguments or "captions" in stage.arguments.get("rows", "")
    rows = captions if of_captions and not tagger else total if tagger and of_captions else 0
    return f"{rows} of {total} rows; drops its own", rows / total if total else 0.0


def _count(workspace: Workspace, path: str) -> int:
    import pyarrow.parquet as pq

    there = workspace.root / path
    there = there / "index.parquet" if there.is_dir() else there
    return int(pq.ParquetFile(there).metadata.num_rows) if there.is_file() else 0


def _seconds(workspace: Workspace, stage: str) -> float | None:
    """How long a stage took when it last ran; None where no run on record ran it."""
    for run in read_runs(workspace):
        for row in run["stages"]:
            if row["name"] == stage and row["outcome"] == "ran":
                return float(row["seconds"])
    return None


def _copies(graph: Graph, workspace: Workspace, uris: list[str]) -> list[str]:
    """Files in quarantine as copies of the track: they would take its place."""
    rows = written_table(graph, workspace.root, "quarantine")
    return sorted(row["uri"] for row in rows if any(row["detail"].endswith(f" as {uri}") for uri in uris))


def show(made: dict[str, Any]) -> int:
    """Print the plan."""
    out = console()
    show_track(made["track"])
    out.print("nothing was changed; this is what a removal would do\n")
    out.print(
        f"remove from the source: {', '.join(made['remove']) or 'no file'}; its description with it", soft_wrap=True
    )
    if made["copies"]:
        out.print(f"and its copies, which would take its place: {', '.join(made['copies'])}", soft_wrap=True)
    out.print(f"rows that go: {sum(made['rows'].values())} in {len(made['rows'])} files")
    if made["stages"]:
        rows = table("stage", "computed again", "about", right=("about",))
        for step in made["stages"]:
            took = "not known" if step["seconds"] is None else f"{step['seconds']:.1f} s"
            rows.add_row(step["name"], step["what"], took)
        out.print(rows)
        more = f", and {len(made['untimed'])} stages without a time on record" if made["untimed"] else ""
        out.print(f"in all about {made['seconds']:.0f} s of one after the other{more}")
    out.print(f"captions of others that showed it: {made['captions_again']}")
    for version in made["retire"]:
        names = ", ".join(filter(None, [version["state"], *version["aliases"]]))
        out.print(
            f"retire version {version['version']}{f' ({names})' if names else ''}: {version['held']}", soft_wrap=True
        )
    if made["unknown"]:
        out.print(f"retire too, unless their manifests say otherwise: versions {', '.join(map(str, made['unknown']))}")
    clean = ", ".join(map(str, made["clean"]))
    out.print(f"free of it: version {clean}" if clean else "no registered version is known to be free of it")
    out.print(
        "then: `needledrop retrain`, gate and promote the new version, delete the retired versions with their runs, and "
        "clear earlier files from DVC's cache and remote with `dvc gc --workspace --cloud`",
        soft_wrap=True,
    )
    return OK
