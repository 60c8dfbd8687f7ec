"""A model folder with a pickle in it is refused whole: reading a pickle can run any code.

Nothing of ours writes one (weights are safetensors and JSON), so one that is there was put there.
"""

import os
import zipfile
from pathlib import Path

from flows.errors import Refusal

SUFFIXES = frozenset((".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"))
_PROTOCOLS = tuple(bytes((0x80, number)) for number in range(2, 6))  # how a pickle begins


class Pickled(Refusal):
    """A folder holds a pickle; nothing in it was read."""


def refuse_pickles(folder: Path) -> None:
    """Look at every file of a model folder, by name and by first bytes, following no link out of it.

    Raises:
        Pickled: a file is a pickle, or a link leads out of the folder; the file is named.
    """
    root = folder.resolve()
    for place, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(place) / name
            shown = path.relative_to(root)
            if not path.resolve().is_relative_to(root):
                raise Pickled(
                    f"{shown} in the model's folder is a link that leads out of it; refused, nothing was read"
                )
            if path.suffix.lower() in SUFFIXES or _is_pickle(path):
                raise Pickled(
                    f"{shown} in the model's folder is pickled, and loading it could run code; refused, nothing was "
                    "read: register the model anew with `needledrop register`"
                )


def _is_pickle(path: Path) -> bool:
    if path.suffix == ".safetensors":  # begins with the length of its header, which may look like a pickle
        return False
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        first = handle.read(4)
    if first.startswith(_PROTOCOLS):
        return True
    if first == b"PK\x03\x04":  # what torch.save writes is a zip with a pickle in it
        try:
            with zipfile.ZipFile(path) as archive:
                return any(Path(name).suffix.lower() in SUFFIXES for name in archive.namelist())
        except zipfile.BadZipFile:
            return True
    return False
