"""The tagger's folder: what it is, what its labels mean, how good it is."""

import json
from pathlib import Path
from typing import Any

from components import stage
from components.tagging.params import TaggingParams
from components.tagging.tagger import Fitted

SEED_SCORES = "seed_scores.parquet"
"""What a pre-trained tagger said of the seed library, so that it need not listen again."""


def save_tagger(fitted: Fitted, params: TaggingParams, folder: Path) -> None:
    """Write config.json, vocabulary.json, scores.json and the tagger's own files; the folder is replaced, whole."""
    with stage.atomic_folder(folder) as part:
        stage.write_json(part / "config.json", {"params": params.model_dump(), **fitted.config})
        stage.write_json(part / "vocabulary.json", fitted.vocabulary.document())
        stage.write_json(part / "scores.json", fitted.scores)
        for name, content in sorted(fitted.files.items()):
            (part / name).write_bytes(content)


def read_document(path: Path) -> dict[str, Any]:
    """Return a JSON file of the last run; nothing where there is none, or one that cannot be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def partial_of(output: Path) -> Path:
    """Return where a stopped run leaves what it has."""
    return output.with_name(output.name + ".partial")
