"""`needledrop who-saw`: what holds a track, in the workspace and in every registered version."""

from pathlib import Path
from typing import Any

from flows.errors import OK
from flows.lineage.chain import release_of
from flows.lineage.holds import holdings
from flows.lineage.naming import all_aliases, registry, tag
from flows.lineage.track import Row, Track, find_track
from flows.lineage.written import captions_shown, written_table
from flows.registry.tracking import MODEL, exists
from flows.release.clips import SEED, read_clips
from flows.workspace.console import console, table
from flows.workspace.graph import Graph, load_graph
from flows.workspace.platform import Platform

_ROLES = {
    "train": "trained on it",
    "val": "stopped training by it",
    "test": "was tested on it",
    SEED: "tagger learnt of it",
}


def who_saw(platform: Platform, name: str) -> dict[str, Any]:
    """Return where a track went: files of the workspace, and what each version had of it.

    Args:
        platform: says where registry and ledger are.
        name: a track, clip or video id, a path, or the beginning of an id.

    Raises:
        Refusal: no clip, or several tracks, go by that name; or the registry does not answer.
    """
    graph = load_graph(platform.workspace.root)
    here = clip_rows(graph, platform.workspace.root)
    versions = _versions(platform)
    kept = [row for version in versions for row in version["rows"] or ()]
    track = find_track([*here, *kept], name)
    mine = [row for row in here if row["clip_id"] in track.clips]
    return {
        "track": track.as_json(),
        "workspace": {
            "clips": [{key: row.get(key) for key in ("clip_id", "split", "uri")} for row in mine],
            "files": [found.as_json() for found in holdings(graph, platform.workspace.root, track)],
            "exemplar_for": served(captions_shown(written_table(graph, platform.workspace.root, "captions")), track),
            "stale": sorted(graph.pending),
        },
        "versions": [_seen(version, track) for version in versions if version["rows"] is not None],
        "unknown": [version["version"] for version in versions if version["rows"] is None],
    }


def clip_rows(graph: Graph, root: Path) -> list[Row]:
    """The rows of the workspace's manifest and seed library; the latter with split `seed`."""
    manifest = written_table(graph, root, "manifest")
    return manifest + [{**row, "split": SEED} for row in written_table(graph, root, "seed")]


def served(shown: dict[str, list[str]], track: Track) -> list[str]:
    """The clips of other tracks whose captions were written with this track as an exemplar."""
    return sorted({clip for one in track.clips for clip in shown.get(one, ()) if clip not in track.clips})


def _versions(platform: Platform) -> list[dict[str, Any]]:
    if not exists(platform):
        return []
    with registry(platform) as client:
        aliases = all_aliases(client, platform)
        found = sorted(client.search_model_versions(f"name = '{MODEL}'"), key=lambda one: int(one.version))
        return [
            {
                "version": int(one.version),
                "aliases": sorted(name for name, number in aliases.items() if number == int(one.version)),
                "run": tag(one, "run"),
                "release": release_of(platform, int(one.version)),
                "rows": read_clips(client, tag(one, "run")),
            }
            for one in found
        ]


def _seen(version: dict[str, Any], track: Track) -> dict[str, Any]:
    """What one version had of the track."""
    mine = [row for row in version["rows"] if row["clip_id"] in track.clips]
    return {
        **{key: version[key] for key in ("version", "aliases", "run")},
        "state": version["release"].state if version["release"] else None,
        "splits": sorted({row["split"] for row in mine}),
        "trained": any(row["trained"] for row in mine),
        "described": any(row["described"] for row in mine),
        "indexed": any(row["indexed"] for row in mine),
        "exemplar_for": len(served(captions_shown(version["rows"]), track)),
    }


def touched(version: dict[str, Any]) -> bool:
    """Tell whether a version holds anything of the track."""
    return bool(version["splits"] or version["exemplar_for"])


def show(seen: dict[str, Any]) -> int:
    """Print it."""
    out = console()
    show_track(seen["track"])
    here = seen["workspace"]
    if here["files"]:
        rows = table("stage", "file", "rows", "named by others", right=("rows",))
        for found in here["files"]:
            named = ", ".join(f"{column}: {count}" for column, count in found["mentions"].items())
            rows.add_row(found["stage"], found["path"], str(found["rows"] or ""), named)
        out.print("\n[bold]workspace[/]")
        out.print(rows)
        out.print(f"exemplar in the prompts of {len(here['exemplar_for'])} other captions")
    else:
        out.print("\nno file of the workspace holds it")
    if here["stale"]:
        out.print(f"out of date, so the last run's: {', '.join(here['stale'])}", soft_wrap=True)
    out.print("\n[bold]registered versions[/]")
    for version in seen["versions"]:
        names = f" ({', '.join(filter(None, [version['state'], *version['aliases']]))})"
        out.print(f"version {version['version']}{names if names != ' ()' else ''}: {said(version)}", soft_wrap=True)
    if seen["unknown"]:
        numbers = ", ".join(map(str, seen["unknown"]))
        out.print(f"unknown: {numbers}, registered before runs kept their clips; see the manifest in their DVC cache")
    if not seen["versions"] and not seen["unknown"]:
        out.print("none")
    return OK


def show_track(track: dict[str, Any]) -> None:
    """Print which track it is about."""
    name = track["track_id"] or f"of the seed library, {track['clips'][0]}"
    title = " - ".join(filter(None, [track["artist"], track["title"]]))
    out = console()
    out.print(
        f"track {name}{f' ({title})' if title else ''}: clips {', '.join(track['clips'])}", markup=False, soft_wrap=True
    )


def said(version: dict[str, Any]) -> str:
    """What a version had of the track, in words."""
    if not touched(version):
        return "never saw it"
    parts = [words for split, words in _ROLES.items() if split in version["splits"]]
    if "train" in version["splits"] and not version["trained"]:
        parts[parts.index(_ROLES["train"])] = "train split, left out for want of features"
    parts += ["holds its description"] if version["described"] else []
    parts += ["its index and catalogue hold it"] if version["indexed"] else []
    parts += [f"exemplar for {version['exemplar_for']} captions"] if version["exemplar_for"] else []
    return ", ".join(parts)
