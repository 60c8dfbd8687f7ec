"""Registration: from files to one model version, once, whatever is killed in between.

The content digest names the result. A version with that digest means the work is done; a run with
it that no version points to is a half one, taken away and made again. The version is created last,
in one call that carries the digest, so it exists whole or not at all. Then it gets its row in the
ledger and is the challenger; a gate and a person decide what becomes champion (flows/release).
"""

import hashlib
import io
import json
import time
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from components.stage import write_json
from flows.environment import redact
from flows.errors import Refusal
from flows.ledger.database import reading
from flows.ledger.lease import check
from flows.registration.code import code_of
from flows.registration.current import Held
from flows.registration.entry import enter, known
from flows.registration.live import TRAINING_TAG, close_left, take_over
from flows.registration.owner import WORKSPACE_TAG, workspace_id
from flows.registry.digest import Digests, digests
from flows.registry.tracking import EXPERIMENT, MODEL, Unreachable, answering, connect, exists, experiment_id
from flows.release.mirror import DIGEST_TAG, RUN_TAG, mirror, standing
from flows.release.releases import OtherContent, read
from flows.release.states import State
from flows.release.table import Release
from flows.release.unit import read_pair
from flows.workspace.graph import Graph
from flows.workspace.platform import Platform
from flows.workspace.provenance import commit_problem
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Registration:
    """What the registry holds for these files.

    Attributes:
        version: number of the model version.
        new: whether it was made now.
        digest: of its content.
        run_id: of its MLflow run.
        aliases: that the ledger gives it.
        tracking: where MLflow is.
        seconds: what making it took.
        instead_of: the version of the same content that it takes the place of, which was deleted in MLflow.
        note: what it lacks; of a new one only.
    """

    version: int
    new: bool
    digest: str
    run_id: str
    aliases: list[str] = field(default_factory=list)
    tracking: str = ""
    seconds: float = 0.0
    instead_of: int | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def sentence(self) -> str:
        """As a person would say it."""
        what = "registered" if self.new else "already registered"
        names = f" ({', '.join(self.aliases)})" if self.aliases else ""
        took = f" in {self.seconds:.1f} s" if self.new else ""
        gone = f", instead of version {self.instead_of}, which is gone from MLflow" if self.instead_of else ""
        note = f"; {self.note}" if self.note else ""
        return f"{MODEL} version {self.version}{names}: {what} at {self.tracking}{took}{gone}{note}"


def can_register(graph: Graph) -> bool:
    """Tell whether the graph makes what a model version is made of."""
    return all(stage in graph for stage in ("training", "evaluation", "indexing"))


def register(graph: Graph, platform: Platform, held: Held | None = None) -> Registration:
    """Register what the files hold, if it is not registered yet, and make it the challenger.

    Call it while holding the workspace's lock.

    Args:
        graph: of the files.
        platform: with MLflow and the ledger.
        held: params and code as they were when the files were known to be theirs; None: as they are now.

    Raises:
        Unreachable: MLflow did not answer; the files stay, and the message says what to run later.
        Refusal: there is nothing to register, model and index are no pair, or params or code were edited meanwhile.
    """
    held = held or Held(platform.workspace)
    if not can_register(graph):
        raise Refusal("dvc.yaml has no training, evaluation and indexing: nothing to register")
    try:
        client = connect(platform)
        with answering(platform.tracking_uri):
            done = _register(client, platform, graph, held)
    except Unreachable as error:
        raise Unreachable(f"{error}; the results stay: run `needledrop register` later") from error.__cause__
    write_json(platform.workspace.receipt, done.as_json())
    return done


def remembered(graph: Graph, platform: Platform) -> Registration | None:
    """The last registration, where it was of the very same content in the very same store; else None.

    A run that changed nothing need not ask MLflow, which costs seconds; `needledrop register` does.
    """
    try:
        last = Registration(**json.loads(platform.workspace.receipt.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    same_store = last.tracking == redact(platform.tracking_uri) and exists(platform)
    if not same_store:
        return None
    name = digests(graph, platform.workspace, code_of(platform.workspace)).content
    while (release := known(platform, name)) is not None and name != last.digest:
        name = _named_anew(release)
    if release is None or release.version != last.version:
        return None
    return replace(last, new=False, seconds=0.0, instead_of=None, note="", aliases=_aliases(platform, last.version))


def state_of(platform: Platform, version: int) -> State:
    """The state of a version that the ledger knows."""
    with reading(platform) as connection:
        return read(connection, version).state


def stands(version: int, state: State) -> str:
    """Say how it stands with a version that was gated before."""
    return f"gate: not again, version {version} is {state.replace('_', ' ')}; see `needledrop release show {version}`"


def _register(client: "MlflowClient", platform: Platform, graph: Graph, held: Held) -> Registration:
    began = time.monotonic()
    names = digests(graph, platform.workspace, code_of(platform.workspace))
    held.require_unchanged()
    digest, gone = _name(client, platform, names.content)
    version = find_version(client, digest)
    new = version is None
    if version is None:
        _require_pair(graph)
        experiment = experiment_id(client, platform.workspace, EXPERIMENT)
        check()
        clear_half_runs(client, experiment, workspace_id(platform.workspace), digest)
        version = _create(client, experiment, graph, platform.workspace, names, digest, held)
        close_left(client, experiment, platform.workspace)
    try:
        enter_as_challenger(client, platform, version)
    except OtherContent:
        if new:  # it would be nobody's
            client.delete_model_version(MODEL, version.version)
            clear_half_runs(client, experiment, workspace_id(platform.workspace), digest)
        raise
    problem = commit_problem(platform.workspace.root) if new else None
    return Registration(
        version=int(version.version),
        new=new,
        digest=digest,
        run_id=version.tags.get(RUN_TAG, ""),
        aliases=_aliases(platform, int(version.version)),
        tracking=redact(platform.tracking_uri),
        seconds=round(time.monotonic() - began, 2),
        instead_of=gone if new else None,
        note=f"it does not know its commit, so `needledrop reproduce` cannot make it again: {problem}"
        if problem
        else "",
    )


def _name(client: "MlflowClient", platform: Platform, content: str) -> tuple[str, int | None]:
    """Return the digest that content is registered by, and the version that it takes the place of, if there is one.

    MLflow gives a deleted version's number to no other, and the ledger forgets nothing: content whose version was deleted
    gets another name and begins as a new challenger. Where the model or the whole store was made anew, numbers begin anew
    too, and the version is made again by its own name.
    """
    gone = None
    numbered = bool(client.search_registered_models(f"name = '{MODEL}'"))
    while numbered and (release := known(platform, content)) is not None:
        if find_version(client, content) is not None or not _has_run(client, release.run_id):
            break
        content, gone = _named_anew(release), release.version
    return content, gone


def _named_anew(release: Release) -> str:
    return hashlib.sha256(f"{release.digest} after version {release.version}".encode()).hexdigest()


def _has_run(client: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return False
        raise
    return True


def find_version(client: "MlflowClient", digest: str) -> "ModelVersion | None":
    """Return the version whose content is `digest`."""
    found = client.search_model_versions(f"name = '{MODEL}' and tags.`{DIGEST_TAG}` = '{digest}'")
    return min(found, key=lambda version: int(version.version), default=None)


def clear_half_runs(client: "MlflowClient", experiment: str, workspace: str, digest: str) -> int:
    """Delete runs that a killed registration left: this workspace's unfinished ones, and those of `digest`.

    Runs that show a training and were not taken over stay. The caller holds the workspace's lock and has found no version of
    `digest`, so none of them is in use.
    """
    half = client.search_runs(
        [experiment], f"tags.`{DIGEST_TAG}` = '{digest}' and tags.`{WORKSPACE_TAG}` = '{workspace}'"
    )
    unfinished = client.search_runs(
        [experiment], f"tags.`{WORKSPACE_TAG}` = '{workspace}' and attributes.status = 'RUNNING'"
    )
    half += [run for run in unfinished if TRAINING_TAG not in run.data.tags or DIGEST_TAG in run.data.tags]
    for run_id in {run.info.run_id for run in half}:
        for model in client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'"):
            client.delete_logged_model(model.model_id)
        client.set_terminated(run_id, "KILLED")
        client.delete_run(run_id)
    return len(half)


def enter_as_challenger(client: "MlflowClient", platform: Platform, version: "ModelVersion") -> None:
    """Put the version into the ledger as the challenger, and let MLflow show it."""
    enter(client, platform, version)
    mirror(platform)


def _aliases(platform: Platform, version: int) -> list[str]:
    aliases = standing(platform).aliases
    return sorted(name for name, number in aliases.items() if number == version)


def _require_pair(graph: Graph) -> None:
    model, index = graph.files.model, graph.files.index
    try:
        read_pair(model, index)
    except (ValueError, OSError, KeyError) as error:
        names = f"{graph.relative(model)}, {graph.relative(index)}"
        raise Refusal(f"{names}: {error}; run `needledrop retrain`") from None


def _create(
    client: "MlflowClient", experiment: str, graph: Graph, workspace: Workspace, names: Digests, digest: str, held: Held
) -> "ModelVersion":
    """Write the run, then the version."""
    import mlflow

    from flows.registration.record import model_source, record

    tags = {DIGEST_TAG: digest, WORKSPACE_TAG: workspace_id(workspace)}
    shown = take_over(client, experiment, graph, workspace)
    with mlflow.start_run(shown, experiment, f"retrain {digest[:8]}", tags=tags) as run:
        record(client, run.info.run_id, graph, workspace, names)
        source = model_source(graph, workspace)
    version_tags = {f"needledrop.{key}": value for key, value in asdict(names).items()}
    version_tags |= {DIGEST_TAG: digest, RUN_TAG: run.info.run_id}
    check()  # the files may have taken minutes
    try:
        held.require_unchanged()
    except Refusal:
        clear_half_runs(client, experiment, workspace_id(workspace), digest)
        raise
    with redirect_stderr(io.StringIO()):  # it reports its steps there
        version: ModelVersion = mlflow.register_model(source, MODEL, tags=version_tags)
    return version
