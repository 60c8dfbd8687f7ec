"""Share the files of dvc.lock through a remote: `needledrop push` and `needledrop pull`.

Where the remote is comes from the environment (`NEEDLEDROP_DVC_REMOTE`, `AWS_ENDPOINT_URL`); DVC gets it in
memory only, so neither an address nor a secret is ever written into the project. DVC leaves out files that
its cache does not have, with a warning; here that is an error, and what DVC never had is named (flows/share/unshared.py).
"""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.environment import redact
from flows.errors import USAGE, Refusal
from flows.registry.digest import locked_outputs
from flows.share.errors import Causes
from flows.share.unshared import Left, unshared
from flows.workspace.graph import check_settled
from flows.workspace.lock import hold
from flows.workspace.platform import Platform
from flows.workspace.workspace import LOCK_FILE, Workspace

if TYPE_CHECKING:
    from dvc.repo import Repo

_NAME = "needledrop"
_PAUSES_S = (1.0, 3.0, 9.0, 27.0)  # between tries; each sends only what is missing still


@dataclass(frozen=True)
class Shared:
    """What one push or pull did."""

    action: str
    remote: str
    files: int
    """Files that had to be transferred."""
    outputs: int
    """Outputs of dvc.lock that DVC keeps; the receiving side has all of them now."""
    seconds: float
    left: tuple[Left, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The whole as plain values."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """The whole in words."""
        did, there = {"push": ("sent to", "there"), "pull": ("fetched from", "here")}[self.action]
        lines = [f"{self.files} files {did} {self.remote}; all {self.outputs} outputs that DVC keeps are {there}"]
        lines += [f"not pushed: {one.path} ({one.mib:.1f} MiB), {one.why}" for one in self.left]
        if self.action == "push":
            lines.append(f"{LOCK_FILE} says which files belong together: commit it to git")
        return lines


def push(platform: Platform) -> Shared:
    """Send every file of dvc.lock that the remote does not have, and see that it has all of them.

    Raises:
        Refusal: no remote is named, it does not answer or refuses, or a file is in no cache.
    """
    began = time.monotonic()
    with hold(platform.workspace), _open(platform) as (repo, address):
        outputs = _shared_outputs(repo, platform.workspace)
        files = _insist(lambda: repo.push(remote=_NAME), f"push to {address}")
        _require_all(repo, address, platform.workspace, "missing", "new")
        left = tuple(unshared(repo, platform.workspace))
        return Shared("push", address, files, outputs, round(time.monotonic() - began, 2), left)


def pull(platform: Platform, force: bool = False) -> Shared:
    """Fetch every file of dvc.lock, check its digest, and put it into the workspace.

    Args:
        platform: names the remote.
        force: replace files that were changed here and are in no cache.

    Raises:
        Refusal: as `push`; or a file here was changed and `force` is false; or the remote lacks a file.
    """
    began = time.monotonic()
    with hold(platform.workspace), _open(platform) as (repo, address):
        outputs = _shared_outputs(repo, platform.workspace)
        done = _insist(lambda: repo.pull(remote=_NAME, force=force), f"pull from {address}")
        _require_all(repo, address, platform.workspace, "missing", "deleted")
        files = int(done["stats"]["fetched"])
        return Shared("pull", address, files, outputs, round(time.monotonic() - began, 2))


@contextmanager
def _open(platform: Platform) -> Iterator[tuple["Repo", str]]:
    """Open the project with the remote of the environment.

    Raises:
        Refusal: there is none, or it cannot be reached at all.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    from flows.registry.tracking import connection_problem

    check_settled(platform.workspace.root)
    url = platform.environment.dvc_remote
    if not url:
        raise Refusal("no remote: set NEEDLEDROP_DVC_REMOTE, e.g. s3://needledrop-dvc/cache", USAGE)
    endpoint = platform.environment.aws_endpoint_url if urlsplit(url).scheme == "s3" else None
    if endpoint and (problem := connection_problem(endpoint)):
        raise Refusal(f"S3 at {redact(endpoint)} does not answer ({problem}); nothing was transferred")
    # `verify` computes each fetched file's digest instead of believing the name it came under.
    remote = {"url": url, "verify": True} | ({"endpointurl": endpoint} if endpoint else {})
    # What s3fs leaves behind when a request is refused; the refusal itself is raised.
    warnings.filterwarnings("ignore", "coroutine 'S3FileSystem", RuntimeWarning)
    try:
        with Repo(str(platform.workspace.root), config={"remote": {_NAME: remote}}) as repo:
            yield repo, redact(url)
    except LockError:
        raise Refusal("busy: a dvc command holds this workspace; wait for it to end") from None
    except DvcException as error:
        raise Refusal(f"dvc: {' '.join(str(error).split())}") from error


def _insist(transfer: Any, doing: str) -> Any:
    """Transfer; after a passing failure again, with growing pauses.

    Raises:
        Refusal: it failed for good; with the first cause, in the service's own words.
    """
    from dvc.exceptions import DownloadError, UploadError

    for pause in (*_PAUSES_S, None):
        causes = Causes()
        try:
            with causes:
                return transfer()
        except (UploadError, DownloadError) as error:
            problem: Exception = causes.first or error
        except causes.of_transport as error:
            problem = error
        if pause is None or not causes.passing(problem):
            raise Refusal(f"cannot {doing}: {causes.words(problem)}; {causes.advice(problem)}") from problem
        logging.getLogger(__name__).info("%s: %s; trying again", doing, problem)
        time.sleep(pause)
    raise AssertionError("the last pause is None")


def _shared_outputs(repo: "Repo", workspace: Workspace) -> int:
    """How many outputs of dvc.lock DVC keeps in its cache.

    Raises:
        Refusal: there is no dvc.lock.
    """
    locked = locked_outputs(workspace.root)
    return sum(out.use_cache and os.path.relpath(out.fs_path, workspace.root) in locked for out in repo.index.outs)


def _require_all(repo: "Repo", address: str, workspace: Workspace, *absent_as: str) -> None:
    """Check that every file arrived, also those that DVC skips with a warning.

    Args:
        repo: the project.
        address: of the remote, for the message.
        workspace: the workspace.
        absent_as: DVC's words for files that the receiving side lacks: `missing` on both sides,
            `new` where only the cache has them, `deleted` where only the remote does.

    Raises:
        Refusal: one did not; the message names its output.
    """
    from dvc.exceptions import DvcException

    nowhere = f"of {LOCK_FILE} are neither in DVC's cache nor at {address}"
    remedy = "run `needledrop retrain`, which makes them again"
    try:
        with Causes():
            wanted = {info for infos in repo.used_objs(remote=_NAME).values() for info in infos}
    except DvcException:  # a folder's list of files is such a file itself
        raise Refusal(f"folders {nowhere}; {remedy}") from None
    found = _insist(lambda: repo.cloud.status(wanted, remote=_NAME), f"look at {address}")
    if absent := {info for word in absent_as for info in getattr(found, word)}:
        names = {digest: path for path, digest in locked_outputs(workspace.root).items()}
        first = min(names.get(info.value, info.value) for info in absent)
        raise Refusal(f"{len(absent)} files {nowhere} (first: {first}); {remedy}")
