"""What a retrain would be made from, told quickly: the commit, the params, and what the corpus holds."""

import hashlib
import json
from typing import Any

import yaml

from components.settings import PARAMS_FILE, read_params
from flows.errors import USAGE, Refusal
from flows.workspace.begin import check
from flows.workspace.observe import observe
from flows.workspace.provenance import git_state
from flows.workspace.workspace import Workspace


def inputs_digest(workspace: Workspace) -> str:
    """Look at the corpus and return one digest over everything that decides the result of a retrain.

    Raises:
        Refusal: params are wrong, or the corpus cannot be listed.
    """
    observe(workspace)
    commit, _ = git_state(workspace.root)
    whole = {"commit": commit, "params": read_params(workspace.root / PARAMS_FILE), "corpus": corpus_digest(workspace)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def corpus_digest(workspace: Workspace) -> str:
    """Digest of the file that says what the corpus holds: the listing, or the demo's description."""
    return hashlib.sha256((workspace.root / check(workspace).corpus.source).read_bytes()).hexdigest()


def override(workspace: Workspace, changes: dict[str, Any]) -> None:
    """Write other values for keys of params.yaml, given as `section.key`; the whole is checked.

    Raises:
        Refusal: there is no such key, or a value is not allowed; params.yaml is as it was.
    """
    if not changes:
        return
    path = workspace.root / PARAMS_FILE
    before = path.read_text(encoding="utf-8")
    tree: dict[str, Any] = yaml.safe_load(before)
    for dotted, value in changes.items():
        *above, key = dotted.split(".")
        place: Any = tree
        for name in above:
            place = place.get(name) if isinstance(place, dict) else None
        # A section may be replaced whole, as another `kind` needs; within one, keys are those it has.
        if not isinstance(place, dict) or key not in place:
            raise Refusal(f"overrides: params.yaml has no '{dotted}'; see `needledrop doctor --params`", USAGE)
        place[key] = value
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        check(workspace)
    except Refusal:
        path.write_text(before, encoding="utf-8")
        raise
