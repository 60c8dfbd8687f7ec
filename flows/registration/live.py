"""The MLflow run of a training while it runs: opened with its first line, followed line by line, taken over by registration.

A stage knows nothing of MLflow, so a thread of the flow reads the journal that it writes. The run is the training's: one that
is killed and goes on from its checkpoint goes on in the same run. MLflow may be away; what was not sent is sent later, at the
latest when the model is registered.

The run's tags say whose it is. A run that no flow writes to any more is closed by whoever comes next: the workspace's own next
training or registration, which holds the workspace's lock, or that of any other workspace, once nothing was heard for an hour.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal

from components.settings import PARAMS_FILE, read_params
from components.training.journal import Journal, Line, read_journal
from flows.registration import curves
from flows.registration.owner import WORKSPACE_TAG, workspace_id
from flows.registration.parameters import flatten, log_params
from flows.registry.tracking import EXPERIMENT, Unreachable, answering, client_of, experiment_id
from flows.release.mirror import DIGEST_TAG, NOTE_TAG
from flows.workspace.graph import Graph
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRAINING_TAG: Final = "needledrop.training"
SEEN_TAG: Final = "needledrop.seen"

LOST_S: Final = 3600.0
"""A run of another workspace from which nothing was heard for so long is closed."""
_PAUSE_S: Final = 2.0  # between two looks at the journal
_BEAT_S: Final = 60.0  # between two signs of life
_AGAIN_S: Final = 10.0  # between two tries while MLflow is away
_LAST_S: Final = 20.0  # for what is left when the stage has ended
_SECTIONS: Final = ("encoder.", "training.")

Ending = Literal["FINISHED", "FAILED", "KILLED"]
_ENDINGS: Final[dict[Ending, str]] = {
    "FINISHED": "The training ended, and no version was registered from this run.",
    "FAILED": "The run of the pipeline failed before a version was registered; run `needledrop retrain` again to go on.",
    "KILLED": "The run of the pipeline was stopped before a version was registered; run `needledrop retrain` again to go on.",
}


class Live:
    """The MLflow run of the training of one flow. As a context it closes the run, unless registration has taken it over."""

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        """Nothing is opened before a training writes; `say` gets the lines for people."""
        self._workspace, self._say = workspace, say
        self._platform = Platform.at(workspace)
        self._run_id: str | None = None
        self._training, self._sent = "", 0
        self._beaten = self._not_before = float("-inf")
        self._away = False
        self._ended = threading.Event()

    def __enter__(self) -> "Live":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run_id is None:
            return
        ending: Ending = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        try:
            client = client_of(self._platform, patient=False)
            with answering(self._platform.tracking_uri):
                if client.get_run(self._run_id).info.status == "RUNNING":
                    _close(client, self._run_id, ending)
        except Unreachable as away:
            self._say(f"{away}; the training's run is closed there by the next retrain")

    @contextmanager
    def following(self, journal: Path) -> Iterator[None]:
        """Show what a stage writes into its journal."""
        thread = threading.Thread(target=self._follow, args=(journal, _stamp(journal)), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(_LAST_S)

    def _follow(self, journal: Path, before: tuple[int, int] | None) -> None:
        while not self._ended.wait(_PAUSE_S):
            self._look(journal, before)
        self._not_before = float("-inf")
        self._look(journal, before)

    def _look(self, journal: Path, before: tuple[int, int] | None) -> None:
        if _stamp(journal) == before or time.monotonic() < self._not_before:
            return  # it is an earlier training's: the stage has not begun, or DVC had its result
        told = read_journal(journal)
        if told is None or not told.lines:
            return
        try:
            client = client_of(self._platform, patient=False)
            with answering(self._platform.tracking_uri):
                self._show(client, told)
        except Unreachable as away:
            self._run_id, self._not_before = None, time.monotonic() + _AGAIN_S
            if not self._away:
                self._say(f"{away}; training goes on, and its curves follow when MLflow answers")
            self._away = True
        else:
            if self._away:
                self._say("MLflow answers again and has the training's curves")
            self._away = False

    def _show(self, client: "MlflowClient", told: Journal) -> None:
        if self._run_id is None or self._training != told.training:
            run_id = self._open(client, told.training)
            losses = client.get_metric_history(run_id, "loss")
            self._training, self._sent = told.training, max((point.step for point in losses), default=0)
            self._run_id = run_id
        for batch in _batches([line for line in told.lines if line.step > self._sent]):
            client.log_batch(self._run_id, metrics=[metric for line in batch for metric in curves.of_line(line)])
            self._sent = batch[-1].step
        if time.monotonic() - self._beaten > _BEAT_S:
            client.set_tag(self._run_id, SEEN_TAG, str(int(time.time())))
            self._beaten = time.monotonic()

    def _open(self, client: "MlflowClient", training: str) -> str:
        """Return the run of a training: that which it had before, or a new one."""
        from mlflow.tracking.context.registry import resolve_tags

        experiment = experiment_id(client, self._workspace, EXPERIMENT)
        found = _run_of(client, experiment, self._workspace, training)
        close_left(client, experiment, self._workspace, but=training)
        note = {
            NOTE_TAG: "**Training.** Curves, clips per second and memory appear here while it runs; its figures on the "
            "test set follow when the version is registered."
        }
        if found is not None:
            client.set_tag(found.info.run_id, NOTE_TAG, note[NOTE_TAG])
            client.update_run(found.info.run_id, status="RUNNING")
            return str(found.info.run_id)
        tags = {TRAINING_TAG: training, WORKSPACE_TAG: workspace_id(self._workspace), SEEN_TAG: str(int(time.time()))}
        named = resolve_tags(tags | note)
        run = client.create_run(experiment, run_name=f"training {training[:8]}", tags=named)
        log_params(client, run.info.run_id, self._workspace, _SECTIONS)
        return str(run.info.run_id)


def take_over(client: "MlflowClient", experiment: str, graph: Graph, workspace: Workspace) -> str | None:
    """Return the run in which the training of this model was shown; None where registration needs one of its own.

    That is so where no version may share it: it is another version's already, or says something else than the files: a
    training that was killed and went on in another number of processes has other figures for the steps that it repeated.
    """
    journal = curves.journal_of_model(graph)
    run = journal and _run_of(client, experiment, workspace, journal.training)
    if not run:
        return None
    params = {name: str(value) for name, value in flatten(read_params(workspace.root / PARAMS_FILE))}
    if any(params.get(name) != value for name, value in run.data.params.items()):
        return None
    figures = {(point.key, point.step): point.value for point in curves.of_training(graph)}
    for point, value in curves.held(client, run).items():
        if figures.get(point) != value and not point[0].startswith(curves.OF_THE_MACHINE):
            return None
    return str(run.info.run_id)


def close_left(client: "MlflowClient", experiment: str, workspace: Workspace, but: str = "") -> int:
    """Close runs of trainings that no flow writes to any more, and return how many; they stay, marked as killed.

    Args:
        client: of MLflow.
        experiment: where runs are.
        workspace: whose lock the caller holds.
        but: a training that goes on.
    """
    own, closed = workspace_id(workspace), 0
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        tags = run.data.tags
        if TRAINING_TAG not in tags or DIGEST_TAG in tags or tags[TRAINING_TAG] == but:
            continue
        if tags.get(WORKSPACE_TAG) == own or time.time() - float(tags.get(SEEN_TAG, 0)) > LOST_S:
            _close(client, run.info.run_id, "KILLED")
            closed += 1
    return closed


def _close(client: "MlflowClient", run_id: str, ending: Ending) -> None:
    client.set_tag(run_id, NOTE_TAG, _ENDINGS[ending])
    client.set_terminated(run_id, ending)


def _run_of(client: "MlflowClient", experiment: str, workspace: Workspace, training: str) -> "Run | None":
    """Return the run of a training that no version has taken over; None where there is none, or where it was deleted."""
    mine = f"tags.`{TRAINING_TAG}` = '{training}' and tags.`{WORKSPACE_TAG}` = '{workspace_id(workspace)}'"
    found = client.search_runs([experiment], mine)
    return next((run for run in found if DIGEST_TAG not in run.data.tags), None)


def _batches(lines: list[Line]) -> Iterator[list[Line]]:
    """Cut lines into requests; a line is sent whole or not at all."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        if batch and size + len(line.figures) > curves.BATCH:
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.figures)
    if batch:
        yield batch


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size
