"""The encoders that a model version brings, or names: which files made its features.

A folder with ``encoders.json`` and, in folders beside it, the files of those encoders that are brought. One that is too
large for that is named by its place on the hub, its commit and the digest of its files, and is fetched once by a command,
not when a question is answered.
"""

import json
import shutil
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from components.features.params import HfParams, ModelParams
from components.hub import commit_of, fetched_folder, folder_digest, model_files, model_folder
from components.modalities import MODALITIES, Modality
from components.settings import Section
from components.stage import write_json

LIST: Final = "encoders.json"
BROUGHT_BYTES: Final = 256 << 20
"""Files of an encoder of the hub that together are larger are named and not brought."""


class Carried(Section):
    """One encoder."""

    model: str
    """As the features' spec names it: a folder's name, or the name on the hub."""
    revision: str
    """As params.yaml has it."""
    weights: str
    """sha256 over its files, see ``components.hub.folder_digest``."""
    folder: str | None
    """Folder beside the list in which its files lie; None where they are on the hub."""
    commit: str | None
    """Commit on the hub; None for a folder of one's own."""


_LIST = TypeAdapter(dict[Modality, Carried])


def write_carried(params: HfParams, target: Path) -> Path:
    """Write the encoders of a section into a new folder; return it.

    Raises:
        ValueError: a model is nowhere.
    """
    target.mkdir()
    listed: dict[Modality, Carried] = {}
    for modality in MODALITIES:
        which: ModelParams = getattr(params, modality)
        own = Path(which.model).is_dir()
        folder = model_folder(which.model, which.revision)
        files, weights = model_files(folder), folder_digest(folder)
        commit = None if own else commit_of(folder)
        brought = None
        if commit is None or sum(path.stat().st_size for path in files) <= BROUGHT_BYTES:
            brought = weights[:12]  # encoders of one file set are brought once
            if not (target / brought).is_dir():
                for path in files:
                    copy = target / brought / path.relative_to(folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
        name = folder.resolve().name if own else which.model
        listed[modality] = Carried(model=name, revision=which.revision, weights=weights, folder=brought, commit=commit)
    write_json(target / LIST, _LIST.dump_python(listed))
    return target


def read_carried(folder: Path) -> dict[Modality, Carried]:
    """Return the encoders of a version by modality.

    Raises:
        ValueError: the list is damaged.
    """
    return _LIST.validate_python(json.loads((folder / LIST).read_text(encoding="utf-8")))


def carried_folder(folder: Path, encoder: Carried) -> Path | None:
    """Return where the files of an encoder lie; None where they were not fetched from the hub yet."""
    if encoder.folder is not None:
        return folder / encoder.folder
    assert encoder.commit is not None
    return fetched_folder(encoder.model, encoder.commit)
