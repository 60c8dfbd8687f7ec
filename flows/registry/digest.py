"""The name of a result by its content: what makes registration happen once."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.settings import PARAMS_FILE, read_params
from flows.errors import Refusal
from flows.workspace.graph import Graph
from flows.workspace.workspace import LOCK_FILE, Workspace

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is built in


@dataclass(frozen=True)
class Digests:
    """Digests of what a release is made of; `content` covers the others."""

    model: str
    index: str
    metrics: str
    manifest: str
    params: str
    code: str

    @property
    def content(self) -> str:
        """One digest over all."""
        return _sha256(json.dumps(self.__dict__, sort_keys=True))


def digests(graph: Graph, workspace: Workspace, code: str) -> Digests:
    """Read the digests of files from dvc.lock and compute that of params; `code` is that of what a version brings.

    Raises:
        Refusal: dvc.lock does not know a file.
    """
    outputs = locked_outputs(workspace.root)

    def of(path: Path) -> str:
        name = graph.relative(path)
        if name not in outputs:
            raise Refusal(f"dvc.lock has no digest of {name}; run `needledrop retrain`")
        return outputs[name]

    files = graph.files
    return Digests(
        model=of(files.model),
        index=of(files.index),
        metrics=of(files.metrics),
        manifest=of(files.manifest),
        params=_sha256(json.dumps(read_params(workspace.root / PARAMS_FILE), sort_keys=True)),
        code=code,
    )


def locked_outputs(root: Path) -> dict[str, str]:
    """Path to content digest of every output that dvc.lock knows."""
    path = root / LOCK_FILE
    if not path.exists():
        raise Refusal("dvc.lock does not exist yet; run `needledrop retrain` first")
    lock: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _LOADER)  # noqa: S506
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", ())}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
