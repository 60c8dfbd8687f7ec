"""A corpus of files that stay where they are."""

import json
import logging
from pathlib import Path, PurePosixPath
from typing import Any

from components.corpus.collected import Collected, truth_table
from components.corpus.companions import annotations_bytes, bring_seed_library
from components.corpus.ledger import Ledger
from components.corpus.params import FolderCorpus

log = logging.getLogger(__name__)


def use_folder(params: FolderCorpus, source: Path, media: Path, seed: Path) -> Collected:
    """Return the tables of a listed folder; ``media`` is emptied, since nothing is copied.

    Raises:
        ValueError: the listing is absent, of another folder, or lists no file.
    """
    listing = read_listing(source, "folder", params.root)
    Ledger(media).keep_only(())
    tags, refused = bring_seed_library(params, seed)
    root = params.root.rstrip("/")
    log.info("corpus folder: %d files, %d refused by name", len(listing["files"]), len(listing["refused"]))
    return Collected(
        inventory=[
            {
                "uri": f"{root}/{entry['path']}",
                "fingerprint": entry["fingerprint"],
                "licence": params.licence,
                "source": "folder",
            }
            for entry in listing["files"]
        ],
        annotations=annotations_bytes(params),
        seed_tags=tags,
        truth=truth_table([]),
        refused=[*refused, *refusals(listing, root)],
    )


def read_listing(source: Path, kind: str, root: str) -> dict[str, Any]:
    """Read the listing at ``source`` and check that it is of ``root``.

    Raises:
        ValueError: it is not, or it lists nothing.
    """
    try:
        listing: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
        same = listing["kind"] == kind and listing["root"] == root
        count = len(listing["files"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{source}: not a listing; remove it and run `needledrop retrain`") from None
    if not same:
        raise ValueError(
            f"{source}: lists {listing['root']}, not {root}; run `needledrop retrain`, which lists it anew"
        )
    for path in (PurePosixPath(entry["path"]) for entry in listing["files"]):
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{source}: {str(path)!r} leads out of {root}; remove the listing and run `needledrop retrain`"
            )
    if not count:
        raise ValueError(f"{source}: no usable file in {root} ({len(listing['refused'])} refused by name)")
    return listing


def refusals(listing: dict[str, Any], root: str) -> list[dict[str, str]]:
    """Return what the lister refused as rows of the quarantine table."""
    return [
        {"uri": f"{root}/{entry['path']}", "stage": "corpus", "reason": entry["reason"], "detail": entry["detail"]}
        for entry in listing["refused"]
    ]
