"""The flow: are the new media like those that the champion was made from, and should a retrain start?"""

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event

from flows.drift import budget
from flows.drift.compare import Outcome, as_json, compare, needed
from flows.drift.logged import CHAMPION_TAG, OUTCOME_TAG, TRIGGER_TAG, fetch_model, fetch_reference, log_run
from flows.drift.page import PAGE, Told, write_report
from flows.drift.settings import DriftSettings, read_settings
from flows.environment import public
from flows.ledger import notices as notify
from flows.ledger.database import reading, transaction
from flows.registry.tracking import MODEL, answering, connect
from flows.release.releases import Release, champion
from flows.retrain import observe_task, run_stages
from flows.workspace.begin import begin
from flows.workspace.graph import Graph, load_graph
from flows.workspace.observe import is_outside
from flows.workspace.platform import Platform
from flows.workspace.processes import Processes
from flows.workspace.run_stage import StageResult
from flows.workspace.terminal import Terminal
from flows.workspace.workspace import Workspace

EVENT = "needledrop.drift"
COMMAND = "needledrop retrain"


@dataclass
class MonitorResult:
    """What one look found and did.

    Attributes:
        outcome: drift, no drift, too few, or refused.
        words: the same as a person would say it.
        key: what a retrain would be started for: the digest of the manifest.
        champion: version that the media were compared with.
        start: a retrain should start, and this look has claimed it.
        why: why it should or should not.
        flow_run: the retrain that was asked for; None where no Prefect server is configured.
        page: the report. mlflow_run: where it is logged.
        facts: every figure.
    """

    outcome: Outcome
    words: str
    key: str
    champion: int | None = None
    start: bool = False
    why: str = ""
    flow_run: str | None = None
    page: str | None = None
    mlflow_run: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return vars(self).copy()


@flow(name="monitor", retries=0, persist_result=False)
def monitor(root: Path, retraining: bool = True, dry_run: bool = False, to_stderr: bool = False) -> MonitorResult:
    """Bring features and tags up to date, compare what is new with the champion's reference, report, and act.

    Args:
        root: the workspace.
        retraining: start a retrain where drift calls for one.
        dry_run: write the page, and have no other effect: no record, no message, no retrain.
        to_stderr: show progress on standard error.

    Raises:
        Refusal: params are wrong, the workspace is busy, a stage failed, or a server does not answer.
    """
    workspace, terminal = Workspace(root), Terminal(to_stderr)
    platform = Platform.at(workspace)
    settings = read_settings(root)
    with begin(workspace) as run:
        with reading(platform) as connection:
            release = champion(connection)
        if release is None:
            result = MonitorResult("refused", "there is no champion to compare with; approve and promote a version", "")
        else:
            processes = Processes(run.id)
            results: list[StageResult] = []
            try:
                if is_outside(workspace) and (observed := observe_task(workspace)):
                    terminal.say(observed)
                graph = load_graph(root)
                run_stages(needed(graph), workspace, run, processes, terminal, results)
            except BaseException:
                processes.stop()
                raise
            finally:
                terminal.stages([one for one in results if one.log])
            result = answer_drift(graph, platform, settings, release, retraining, dry_run)
        terminal.say(sentence(result))
        create_markdown_artifact(key="monitor", markdown=sentence(result), description="What the monitor found")
        run.finish("finished", monitor=result.as_json())
        return result


def answer_drift(
    graph: Graph,
    platform: Platform,
    settings: DriftSettings,
    release: Release,
    retraining: bool,
    dry_run: bool,
) -> MonitorResult:
    """Compare, decide whether a retrain is due, write the page, log it, and tell."""
    uri = platform.tracking_uri
    client = connect(platform)
    with tempfile.TemporaryDirectory() as scratch, answering(uri):
        reference = fetch_reference(release.version, release.run_id, Path(scratch))
        finding = compare(graph, platform.workspace, reference, settings, fetch_model(release, Path(scratch)))
    result = MonitorResult(finding.outcome, finding.words, finding.key, release.version, facts=as_json(finding))
    if finding.outcome == "drift":
        with transaction(platform) as connection:
            now, limits = datetime.now(UTC), settings.retrains
            record = retraining and not dry_run
            claimed = budget.claim(connection, finding.key, release.version, limits, now, record)
        result.start, result.why = claimed.start, claimed.why
        if claimed.start and record:
            start(platform, result)
    folder = platform.workspace.reports / "monitor" / f"{finding.key[:12]}-against-{release.version}"
    told = Told(release.version, release.created, settings.false_alarms, next_step(result))
    write_report(folder, reference, finding, told)
    result.page = str(folder / PAGE)
    if not dry_run:
        tags = {TRIGGER_TAG: result.key, CHAMPION_TAG: str(release.version), OUTCOME_TAG: result.outcome}
        with answering(uri):
            result.mlflow_run = log_run(client, platform.workspace, folder, tags, result.facts)
        if finding.outcome == "drift":
            tell(platform, result)
    return result


def start(platform: Platform, result: MonitorResult) -> None:
    """Start the retrain that was claimed; without a Prefect server a person does, and the claim is given back."""
    if platform.environment.prefect_api_url is not None:
        from flows.drift.start import start_retrain

        try:
            result.flow_run = start_retrain(result.key, result.words)
        except Exception as error:  # whatever it is, media have drifted and must be reported
            result.start, result.why = False, f"the retrain could not be started: {' '.join(str(error).split())[:200]}"
    with transaction(platform) as connection:
        if result.flow_run is None:
            budget.release_claim(connection, result.key)
        else:
            budget.confirm(connection, result.key, result.flow_run)


def tell(platform: Platform, result: MonitorResult) -> None:
    """Emit Prefect's event and send the notice, each once for the same media and champion."""
    about = f"drift/{result.key}/{result.champion}"
    if notify.claim(platform, f"event/{about}"):
        emit_event(
            event=EVENT,
            resource={"prefect.resource.id": f"needledrop.model.{MODEL}", "prefect.resource.name": MODEL},
            payload={"key": result.key, "champion": result.champion, "words": result.words, "start": result.start},
        )
        notify.close(platform, f"event/{about}")
    server = public(platform.tracking_uri)
    report = f"{server}/#/runs/{result.mlflow_run}" if server and result.mlflow_run else result.page
    notify.send(platform, f"needledrop: the media have drifted\n{sentence(result)}\n{report}", about)


def sentence(result: MonitorResult) -> str:
    """The result as a person would say it."""
    against = f" (against champion version {result.champion})" if result.champion and result.facts["families"] else ""
    step = next_step(result)
    return f"{result.words}{against}" + (f"; {step}" if step else "")


def next_step(result: MonitorResult) -> str:
    """What happens next, or what a person can do; nothing where there is nothing to do."""
    if result.outcome != "drift":
        return ""
    if result.flow_run:
        return f"retrain started (flow run {result.flow_run})"
    if result.start:
        return f"a retrain is due: run `{COMMAND}`"
    return f"no retrain: {result.why}"
