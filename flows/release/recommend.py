"""Ask a registered model for music that fits a video, a sentence, or both."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.markup import escape

from flows.environment import redact
from flows.errors import OK, USAGE, Refusal
from flows.registry import tracking
from flows.release.mirror import CHALLENGER, CHAMPION
from flows.release.unit import stored
from flows.workspace.console import console, table
from flows.workspace.platform import Platform


def ask(platform: Platform, video: Path | None, text: str | None, k: int, alias: str | None) -> dict[str, Any]:
    """Return the ranking of the model with `alias`; without one, of the champion, else of the challenger.

    Raises:
        Refusal: nothing to ask with, no such file, not a video, no such model, MLflow does not answer.
    """
    if video is None and not text:
        raise Refusal('give a VIDEO, a sentence with --text "...", or both', USAGE)
    if video is not None and not video.is_file():
        raise Refusal(f"{video}: {'is a folder, not a video' if video.is_dir() else 'no such file'}")
    uri = platform.tracking_uri
    number, alias, note = _version(platform, alias)

    import mlflow
    import pandas as pd

    row = {"video": str(video.resolve()) if video else None, "text": text or None, "k": k}
    # Nothing of ours imports `components` here: the version brings its own.
    client = tracking.connect(platform, patient=False)
    with tracking.answering(uri), redirect_stdout(sys.stderr), stored(client, number) as folder:
        model = mlflow.pyfunc.load_model(str(folder))
        try:
            answer = model.predict(pd.DataFrame([row]).astype({"video": "object", "text": "object"}))
        except ValueError as error:
            raise Refusal(str(error)) from None
    ranking = answer.drop(columns="query").to_dict("records")
    return {
        "model": f"{tracking.MODEL} version {number}",
        "alias": alias,
        "note": note,
        **row,
        "ranking": [_plain(hit) for hit in ranking],
    }


def _version(platform: Platform, alias: str | None) -> tuple[int, str, str]:
    """Return a version, its alias, and what is to be said about it."""
    uri = platform.tracking_uri
    aliases: dict[str, Any] = {}
    if tracking.exists(platform):
        client = tracking.connect(platform, patient=False)
        with tracking.answering(uri):
            for model in client.search_registered_models(f"name = '{tracking.MODEL}'"):
                aliases = model.aliases
    wanted = alias or CHAMPION
    if wanted in aliases:
        return int(aliases[wanted]), wanted, ""
    if alias is None and CHALLENGER in aliases:
        number = int(aliases[CHALLENGER])
        note = f"no champion yet: this is the challenger, version {number}, which nobody has approved and promoted"
        return number, CHALLENGER, note
    known = f"; there is {', '.join(sorted(aliases))}" if aliases else "; run `needledrop retrain` first"
    raise Refusal(f"no model has the alias '{wanted}' at {redact(uri)}{known}")


def _plain(hit: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): None if value != value else value for key, value in hit.items()}  # NaN differs from itself


def show(answer: dict[str, Any]) -> int:
    """Print the ranking."""
    out = console()
    asked = " and ".join(part for part in (answer["video"], f"“{answer['text']}”" if answer["text"] else None) if part)
    out.print(f"{answer['model']} ({answer['alias']}), for {asked}", markup=False, soft_wrap=True)
    if answer["note"]:
        out.print(answer["note"], markup=False, soft_wrap=True)
    rows = table("rank", "score", "title", "artist", "time", "tags", "clip", right=("rank", "score"))
    for hit in answer["ranking"]:
        time = f"{hit['start_s']:.1f}-{hit['end_s']:.1f} s"
        tags = ", ".join(tag.partition(":")[2] or tag for tag in hit["tags"].split(", "))
        words = (hit["title"] or "", hit["artist"] or "", time, tags, hit["clip_id"])
        rows.add_row(str(hit["rank"]), f"{hit['score']:.3f}", *map(escape, words))
    out.print(rows)
    return OK
