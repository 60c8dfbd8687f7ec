"""Models in the format of the transformers library: from a folder or the hub, safetensors only."""

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model"),
    *("spiece.model", "spm.model", "sentencepiece.bpe.model"),
)
_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")  # no pickles, no code
_COMMIT = re.compile(r"[0-9a-f]{40}")


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def model_folder(model: str, revision: str) -> Path:
    """Return the folder of a model; one on the hub is fetched, without pickles and code.

    Raises:
        ValueError: there is no such model, it cannot be fetched, or it has no safetensors.
    """
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=list(_FILES)))
        except Exception as error:  # the hub's client raises its own, urllib's, httpx's and more
            raise ValueError(f"{model}: neither a folder nor to be had from the hub: {one_line(error)}") from None
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder}: no *.safetensors in it; pickled weights are not read, convert them first")
    return folder


def commit_of(folder: Path) -> str | None:
    """Return the commit of a model that was fetched from the hub; None for a folder of one's own."""
    return folder.name if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name) else None


def fetched_folder(model: str, commit: str) -> Path | None:
    """Return the folder of a model of the hub where it was fetched before; nothing is asked of the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=commit, allow_patterns=list(_FILES), local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def model_files(folder: Path) -> list[Path]:
    """Return all files of a model that are read, by path; those of folders inside too, such as a pooling's."""
    return sorted({path for pattern in _FILES for path in folder.rglob(pattern) if path.is_file()})


def folder_digest(folder: Path) -> str:
    """Return the sha256 over names and contents of the files that decide a model's answers.

    A 176B model is 350 GB in 72 files: they are read side by side, the disk is the limit.
    """
    files = sorted(path for pattern in _FILES for path in folder.glob(pattern))
    with ThreadPoolExecutor(8) as pool:
        listed = [[path.name, digest] for path, digest in zip(files, pool.map(file_digest, files), strict=True)]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def load(what: str, folder: Path, loading: Callable[[], Any]) -> Any:
    """Return what ``loading`` returns; whatever stops it becomes one line.

    Raises:
        ValueError: the folder lacks it, it is of another kind, or it would need code of its own.
    """
    try:
        return loading()
    except Exception as error:  # a foreign folder fails in as many ways as it can be wrong
        raise ValueError(f"{folder}: its {what} cannot be used: {one_line(error)}") from None


def load_part(kind: Any, folder: Path) -> Any:
    """Return a model's tokenizer or feature extractor; ``kind`` is the library's class for it.

    Raises:
        ValueError: as ``load``.
    """
    what = {"AutoTokenizer": "tokenizer", "AutoFeatureExtractor": "feature extractor"}[kind.__name__]
    # Without its vocabulary the library makes an empty tokenizer, to which every word is unknown.
    if what == "tokenizer" and not any((folder / name).is_file() for name in _VOCABULARIES):
        raise ValueError(f"{folder}: its tokenizer cannot be used: none of {', '.join(_VOCABULARIES)} is there")
    return load(what, folder, lambda: kind.from_pretrained(folder, trust_remote_code=False, local_files_only=True))


def load_model(kind: Any, folder: Path, **how: Any) -> Any:
    """Return a model with all its weights, for inference in float32.

    Args:
        kind: the library's class of the model.
        folder: where its files are.
        how: what else the library's loader is told, such as another ``config`` for a part of a larger model.

    Raises:
        ValueError: as ``load``; or weights are missing, which the library would replace by chance.
    """
    import torch
    import transformers

    # It loads in a moment, and would say so over several lines; what is wrong is told below, in one.
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    model, loading = load(
        "model",
        folder,
        lambda: kind.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            **how,
        ),
    )
    wrong = sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]]))
    if wrong:
        raise ValueError(
            f"{folder}: {len(wrong)} weights of {type(model).__name__} are missing or of another size, {wrong[0]} first"
        )
    return model.eval()


def one_line(error: Exception) -> str:
    """Return a library's error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
