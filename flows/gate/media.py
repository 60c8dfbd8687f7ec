"""The clips of a report's examples, put into the page so that it plays without anything else."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_KINDS = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/mp4",
    ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".ogg": "audio/ogg", ".wav": "audio/wav",
}  # fmt: skip


def embedded(report: dict[str, Any], root: Path, most_mib: float) -> dict[str, str]:
    """Return data URIs by clip id, as many as fit in turns of wins and losses.

    Args:
        report: with its examples.
        root: the workspace, where relative paths begin.
        most_mib: MiB that the URIs may take together.
    """
    left = most_mib * 2**20
    found: dict[str, str] = {}
    for example in _in_turns(report["examples"]):
        path = root / (example["uri"] or "")
        kind = _KINDS.get(path.suffix.lower())
        if kind is None or example["clip_id"] in found or not path.is_file():
            continue
        size = 4 * -(-path.stat().st_size // 3)  # in base64
        if size <= left:
            found[example["clip_id"]] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
            left -= size
    return found


def _in_turns(examples: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    wins, losses = examples["wins"], examples["losses"]
    for at in range(max(len(wins), len(losses))):
        yield from wins[at : at + 1]
        yield from losses[at : at + 1]
