"""A model on disk: is it a folder, and do its files still say the same?"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.captioning.params import BloomParams

_READ = "*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"


def is_folder(params: BloomParams) -> bool:
    """Return whether the model is a folder rather than a name on the hub.

    Raises:
        ValueError: it is written like a path, and there is no such folder; or no model is in it.
    """
    if Path(params.model).is_dir():
        if not (Path(params.model) / "config.json").is_file():
            raise refused(params, "has no config.json, so it is no model's folder")
        return True
    if Path(params.model).exists():
        raise refused(params, "is a file; give the folder that holds config.json, the tokenizer and the weights")
    if params.model.startswith((".", "/", "~")) or params.model.count("/") > 1:
        raise refused(params, "there is no such folder")
    return False


def folder_digest(folder: Path) -> str:
    """Return the sha256 over names and contents of the files that decide a model's answers.

    A 176B model is 350 GB in 72 files: they are read side by side, the disk is the limit.
    """
    files = sorted({path for pattern in _READ for path in folder.glob(pattern)}, key=lambda path: path.name)

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(8) as pool:
        listed = [f"{path.name} {value}\n" for path, value in zip(files, pool.map(digest, files), strict=True)]
    return hashlib.sha256("".join(listed).encode()).hexdigest()


def refused(params: BloomParams, reason: str) -> ValueError:
    """Return the error of a model that cannot be used, in one line."""
    return ValueError(f"captioning.model: {params.model!r} {reason}")
