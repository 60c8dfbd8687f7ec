"""Where a clip's caption comes from: tagger scores, tags, prompt, what the model wrote, the caption."""

from pathlib import Path
from typing import Any

from rich.markup import escape

from flows.errors import OK, USAGE, Refusal
from flows.workspace.begin import check
from flows.workspace.console import console, table
from flows.workspace.graph import Graph, Stage, load_graph
from flows.workspace.workspace import Workspace

Row = dict[str, Any]

_SCORES = 12  # shown to a person; all of them are in the JSON


def trace(workspace: Workspace, clip: str) -> dict[str, Any]:
    """Return everything that led to the caption of a clip.

    Args:
        workspace: whose files are read; nothing is changed.
        clip: a clip id or the beginning of one, a video id, or a path from the manifest.

    Raises:
        Refusal: there are no captions yet, or no clip, or several, go by that name.
    """
    params = check(workspace)
    graph = load_graph(workspace.root)
    captioning, tagging = _stage(graph, "completions"), _stage(graph, "scores")
    manifest = _rows(workspace.root / captioning.argument("manifest"))
    found = _find(manifest, clip)
    clip_id = found["clip_id"]

    def of_clip(stage: Stage, name: str) -> list[Row]:
        return [row for row in _rows(workspace.root / stage.argument(name)) if row.get("clip_id") == clip_id]

    captions = of_clip(captioning, "captions")
    completions = sorted(of_clip(captioning, "completions"), key=lambda row: row["attempt"])
    refused = [row for row in _rows(workspace.root / captioning.argument("quarantine")) if row["uri"] == found["uri"]]
    tags = of_clip(tagging, "tags")
    return {
        "clip": {key: found[key] for key in ("clip_id", "video_id", "split", "uri", "title", "artist")},
        "scores": [score for row in of_clip(tagging, "scores") for score in row["scores"]],
        "tags": [tag for row in tags for tag in row["tags"]],
        "attempts": [
            {
                "prompt": row["prefix"] + row["suffix"],
                "raw": row["text"],
                "finish": row["finish"],
                "detail": row["detail"],
                "reasons": row["reasons"],
            }
            for row in completions
        ],
        "caption": captions[0] if captions else None,
        "judgement": _judged(workspace.root / captioning.argument("taxonomy"), params.captioning, tags, captions),
        "quarantined": refused[0] if refused else None,
        "stale": sorted({captioning.name, tagging.name} & set(graph.pending)),
    }


def _judged(taxonomy: Path, params: Any, tags: list[Row], captions: list[Row]) -> dict[str, Any] | None:
    """Which tags the caption names, and which terms no tag covers."""
    if not tags or not captions:
        return None
    from components.captioning.captioner import read_tags
    from components.captioning.prompt import asked
    from components.captioning.quality import judge
    from components.taxonomy import read_taxonomy

    clip, words = read_tags(tags[0]), read_taxonomy(taxonomy)
    if hasattr(params, "prompt"):
        clip = asked(clip, params.prompt.max_tags, words)
    judgement = judge(captions[0]["text"], "stop", clip, (), words, params.quality)
    return {
        "recall": judgement.recall,
        "missed": [f"{group}: {name}" for group, name in judgement.missed],
        "hallucinated": list(judgement.hallucinated),
    }


def _stage(graph: Graph, argument: str) -> Stage:
    for stage in graph.stages:
        if argument in stage.arguments:
            return stage
    raise Refusal(f"dvc.yaml has no stage with --{argument}: there is nothing to trace")


def _rows(path: Path) -> list[Row]:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise Refusal(f"{path.name} is not there yet; run `needledrop retrain` first")
    rows: list[Row] = pq.ParquetFile(path).read().to_pylist()
    return rows


def _find(manifest: list[Row], name: str) -> Row:
    exact = [row for row in manifest if name in (row["clip_id"], row["video_id"], row["uri"])]
    found = exact or [row for row in manifest if name and row["clip_id"].startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refusal(f"no clip of the manifest is called {name!r}; clip ids are in its column clip_id", USAGE)
    listed = ", ".join(row["clip_id"] for row in found[:5])
    raise Refusal(f"{len(found)} clips go by {name!r} ({listed} ...): give a clip id", USAGE)


def show(traced: dict[str, Any]) -> int:
    """Print it, in the order in which it came about."""
    out = console()
    clip = traced["clip"]
    out.print(f"[bold]clip {clip['clip_id']}[/] ({clip['split']}): {escape(clip['uri'])}")
    if traced["stale"]:
        out.print(f"out of date: {', '.join(traced['stale'])}; what follows is the last run's")
    scores = sorted(traced["scores"], key=lambda score: -score["probability"])
    kept = {(tag["group"], tag["name"]) for tag in traced["tags"]}
    rows = table("score", "label", "tag", "", right=("score",))
    for score in scores[:_SCORES]:
        tag = f"{score['group']}: {score['name']}" if score["name"] else "not in the taxonomy"
        known = (score["group"], score["name"]) in kept
        rows.add_row(f"{score['probability']:.3f}", escape(score["label"]), escape(tag), "kept" if known else "")
    out.print(f"\n[bold]tagger[/], {len(scores)} labels, the likeliest:")
    out.print(rows)
    for number, attempt in enumerate(traced["attempts"], 1):
        out.print(f"\n[bold]prompt of attempt {number}[/]")
        out.print(attempt["prompt"], markup=False, soft_wrap=True)
        out.print(f"[bold]the model wrote[/] (ended by {attempt['finish']})")
        out.print(repr(attempt["raw"]) if attempt["raw"] else attempt["detail"], markup=False, soft_wrap=True)
        reasons = ", ".join(attempt["reasons"])
        out.print(f"refused: {reasons}" if reasons else "passed every check")
    _show_result(traced)
    return OK


def _show_result(traced: dict[str, Any]) -> None:
    out = console()
    caption, judged = traced["caption"], traced["judgement"]
    if traced["quarantined"]:
        out.print(f"\n[bold]quarantined[/]: {escape(traced['quarantined']['detail'])}")
    if caption is None:
        return
    out.print(f"\n[bold]caption[/] ({caption['kind']}, {caption['verdict']}, {caption['attempts']} attempts)")
    out.print(caption["text"], markup=False, soft_wrap=True)
    if judged:
        missed, made_up = ", ".join(judged["missed"]) or "none", ", ".join(judged["hallucinated"]) or "none"
        out.print(f"tag recall {judged['recall']:.2f}; missed: {escape(missed)}; not in the tags: {escape(made_up)}")
    if caption["model"]:
        out.print(f"model {caption['model']}, {caption['decoding']}, {caption['prompt_version']}", markup=False)
