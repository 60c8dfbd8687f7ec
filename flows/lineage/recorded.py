"""What a version's run says it was made of, checked against the version's own tags before it is used."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.settings import PARAMS_FILE, ParamsError, read_params
from flows.errors import Refusal
from flows.lineage.chain import COMMIT_TAG
from flows.lineage.naming import tag
from flows.registry.digest import locked_outputs
from flows.registry.pickles import refuse_pickles
from flows.release.clips import FOLDER, HISTORY
from flows.release.unit import stored
from flows.workspace.workspace import LOCK_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_METRICS, _RANKS = "evaluation/metrics.json", "evaluation/ranks.parquet"
_HISTORY = f"{FOLDER}/{HISTORY}"


@dataclass(frozen=True)
class Recorded:
    """Files of one version, fetched into a folder.

    Attributes:
        version: its number.
        commit: git commit of its code; 40 or 64 hexadecimal digits.
        lock: dvc.lock of that day.
        params: params.yaml of that day.
        metrics: metrics.json of the evaluation.
        ranks: ranks.parquet of the evaluation.
        environment: installed packages, one a line.
        model: folder with the weights, free of pickles.
        splits: history of the splits; None of a version that was registered before there was one.
    """

    version: int
    commit: str
    lock: Path
    params: Path
    metrics: Path
    ranks: Path
    environment: Path
    model: Path
    splits: Path | None


def fetch(client: "MlflowClient", version: "ModelVersion", folder: Path) -> Recorded:
    """Fetch what is recorded of a version into `folder`.

    Raises:
        Refusal: it was trained from files that no commit has, an artifact is gone or is not what the
            version's tags say, or its model folder holds a pickle.
    """
    number, run_id = int(version.version), tag(version, "run")
    commit = _commit(client, number, run_id)
    names = (LOCK_FILE, str(PARAMS_FILE), _METRICS, _RANKS, "environment.txt")
    lock, params, metrics, ranks, packages = (_artifact(client, run_id, name, folder, number) for name in names)
    found = Recorded(
        version=number,
        commit=commit,
        lock=lock,
        params=params,
        metrics=metrics,
        ranks=ranks,
        environment=packages,
        model=fetch_model(client, number, folder),
        splits=_artifact(client, run_id, _HISTORY, folder, number) if _is_there(client, run_id, _HISTORY) else None,
    )
    _check(found, version)
    return found


def fetch_model(client: "MlflowClient", number: int, folder: Path) -> Path:
    """Copy the weights of a version's logged model into `folder`; return where they are.

    Raises:
        Refusal: they are gone, or a file of the model is a pickle.
    """
    with stored(client, number) as there:
        refuse_pickles(there)
        weights = there / "artifacts" / "model"
        if not weights.is_dir():
            raise Refusal(f"the files of version {number} have no folder artifacts/model; restore the artifact store")
        return Path(shutil.copytree(weights, folder / "model"))


def _commit(client: "MlflowClient", number: int, run_id: str) -> str:
    tags = client.get_run(run_id).data.tags
    commit, dirty = tags.get(COMMIT_TAG, "none"), tags.get("needledrop.git_dirty", "unknown")
    if len(commit) not in (40, 64) or set(commit) - set("0123456789abcdef"):
        raise Refusal(
            f"version {number} was made outside a git repository (commit {commit[:64]!r}), so there is no code to go "
            "back to; train in a clone"
        )
    if dirty != "false":
        raise Refusal(
            f"version {number} was made from files that differed from commit {commit[:12]} (git_dirty is {dirty!r}), so "
            "no commit holds what made it; commit first, then `needledrop retrain`"
        )
    return commit


def _is_there(client: "MlflowClient", run_id: str, name: str) -> bool:
    return any(item.path == name for item in client.list_artifacts(run_id, name.partition("/")[0]))


def _artifact(client: "MlflowClient", run_id: str, name: str, folder: Path, number: int) -> Path:
    from mlflow.exceptions import MlflowException

    place = folder / "run"
    place.mkdir(exist_ok=True)
    try:
        return Path(client.download_artifacts(run_id, name, str(place)))
    except (MlflowException, OSError):
        raise Refusal(f"{name} of version {number} is gone from its run {run_id}; restore the artifact store") from None


def _check(found: Recorded, version: "ModelVersion") -> None:
    """Compare the fetched files with the digests that the version carries."""
    try:
        outputs = set(locked_outputs(found.lock.parent).values())
        params = hashlib.sha256(json.dumps(read_params(found.params), sort_keys=True).encode()).hexdigest()
    except (KeyError, TypeError, ValueError, ParamsError):
        outputs, params = set(), ""
    metrics = hashlib.md5(found.metrics.read_bytes(), usedforsecurity=False).hexdigest()  # as DVC names files
    wrong = [LOCK_FILE for name in ("model", "index", "metrics", "manifest") if tag(version, name) not in outputs]
    wrong += [str(PARAMS_FILE)] if params != tag(version, "params") else []
    if found.splits and hashlib.md5(found.splits.read_bytes(), usedforsecurity=False).hexdigest() not in outputs:
        wrong.append(found.splits.name)
    wrong += [found.metrics.name] if metrics != tag(version, "metrics") else []
    if wrong:
        raise Refusal(
            f"{wrong[0]} in the run of version {found.version} is not what the version was registered with; "
            "restore the artifact store"
        )


def place(found: Recorded, clone: Path, with_lock: bool) -> None:
    """Put params.yaml, and dvc.lock where it is wanted, into a clone."""
    shutil.copyfile(found.params, clone / PARAMS_FILE)
    if with_lock:
        shutil.copyfile(found.lock, clone / LOCK_FILE)
