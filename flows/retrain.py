"""The flow: check, observe, run the graph, register, and say what happened."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from prefect import State, Task, flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.environment import read_environment
from flows.errors import GATE_FAILED, OK, VERDICT_CODES, Refusal
from flows.gate.flow import gate
from flows.gate.run import GateResult
from flows.gate.settings import GateSettings, read_settings
from flows.ledger.errors import LedgerError
from flows.ledger.lease import LeaseLost, check
from flows.registration.current import Held, edits_since
from flows.registration.live import Live
from flows.registration.register import Registration, can_register, register, remembered, stands, state_of
from flows.registry.tracking import Unreachable
from flows.release.announce import tell_refused, tell_verdict
from flows.release.states import UNDECIDED, VERDICTS
from flows.workspace.begin import begin
from flows.workspace.graph import Graph, Stage, load_graph
from flows.workspace.observe import Unanswered, is_outside, observe
from flows.workspace.platform import Platform
from flows.workspace.processes import Processes
from flows.workspace.results import headline
from flows.workspace.run_stage import StageFailed, StageResult, run_stage, unchanged
from flows.workspace.runs import Run
from flows.workspace.terminal import Terminal
from flows.workspace.workspace import Workspace

NEXT = """
next: needledrop recommend VIDEO --text "warm acoustic folk, hopeful"   music for a video of yours
      needledrop approve {version} --by YOU --reason WHY, then promote {version}       make a version that passed the champion
      make ui                                                          the run, its plots and reports in MLflow and Prefect"""


@dataclass
class Retrain:
    """What one retrain did.

    Attributes:
        verdict: passed, failed or inconclusive; refused: the version could not be gated; None: it was not to be gated, there is
            none, or people have decided about it since its gate.
        refusal: why it could not be gated.
    """

    run: str
    stages: list[StageResult] = field(default_factory=list)
    metrics: dict[str, Any] | None = None
    registration: Registration | None = None
    gate: GateResult | None = None
    verdict: str | None = None
    refusal: str | None = None

    @property
    def code(self) -> int:
        """The exit code of its ending."""
        return VERDICT_CODES[self.verdict] if self.verdict else OK

    def as_json(self) -> dict[str, Any]:
        """The whole as plain values."""
        return {
            "run": self.run,
            "stages": [result.row() for result in self.stages],
            "metrics": self.metrics,
            "registration": self.registration.as_json() if self.registration else None,
            "gate": self.gate.as_json() if self.gate else None,
            "verdict": self.verdict,
            "refusal": self.refusal,
        }


_JOURNAL = "journal"  # the argument of a stage that tells, while it runs, how it gets on
_RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner()


@flow(name="retrain", retries=0, persist_result=False, task_runner=_RUNNER)
def retrain(root: Path, registering: bool = True, gating: bool = True, to_stderr: bool = False) -> Retrain:
    """Bring every stage of the workspace up to date, register the model that comes of it, and gate it.

    Args:
        root: the workspace.
        registering: register the result; without it only the files are brought up to date.
        gating: hold what was registered against the champion, or against the floors where there is none.
        to_stderr: show progress on standard error.

    Raises:
        Refusal: params are wrong, the workspace is busy, a stage failed, or registration did.
    """
    workspace = Workspace(root)
    terminal = Terminal(to_stderr)
    with begin(workspace) as run, Live(workspace, terminal.say) as live:
        summary = Retrain(run.id)
        processes = Processes(run.id)
        try:
            if is_outside(workspace) and (observed := observe_task(workspace)):
                terminal.say(observed)
            graph, policy = load_graph(workspace.root), gate_policy(workspace.root)
            terminal.say(_opening(graph, run))
            run_stages(graph, workspace, run, processes, terminal, summary.stages, live)
        except BaseException:
            processes.stop()
            raise
        finally:
            terminal.stages(summary.stages)
        summary.metrics = headline(graph)
        terminal.metrics(summary.metrics)
        if registering and can_register(graph):
            known = None if graph.pending else remembered(graph, Platform.at(workspace))
            summary.registration = known or register_task(graph, workspace)
            terminal.say("\n" + summary.registration.sentence())
            if gating:
                gate_if_due(workspace, summary, summary.registration.version, terminal, policy)
            terminal.say(NEXT.format(version=summary.registration.version))
        elif graph.pending and (edits := edits_since(graph)):
            terminal.say(f"note: {edits}")
        show_in_prefect(summary)
        run.finish("finished", **summary.as_json())
        return summary


def _may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    try:
        state.result()
    except Unanswered:
        return True
    except Exception:
        return False
    return False


@task(
    name="observe",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=[2, 8, 20],
    retry_condition_fn=_may_pass,
    persist_result=False,
)
def observe_task(workspace: Workspace) -> str | None:
    """Look at a corpus outside the workspace; a bucket may need a second try."""
    return observe(workspace)


@task(name="register", cache_policy=NO_CACHE, retries=0, persist_result=False)
def register_task(graph: Graph, workspace: Workspace) -> Registration:
    """Register what the graph made; trying again when MLflow does not answer is its own matter.

    Raises:
        Refusal: inputs of a stage are others than when the graph was read.
    """
    held = Held(workspace)
    if edits := edits_since(graph):
        raise Refusal(f"not registered: {edits}")
    return register(graph, Platform.at(workspace), held)


def gate_policy(root: Path) -> GateSettings | Refusal:
    """Read the gate's settings when a run begins, or why they cannot be used: that is said when they are needed."""
    try:
        return read_settings(root)
    except Refusal as refusal:
        return refusal


def gate_if_due(
    workspace: Workspace, summary: Retrain, version: int, terminal: Terminal, policy: GateSettings | Refusal
) -> None:
    """Gate a version that has no verdict yet, and note what came of it; what cannot be gated stays registered.

    Args:
        workspace: that it was made in.
        summary: gets the verdict.
        version: which.
        terminal: to speak to.
        policy: the gate's settings, as they were when the run began.

    Raises:
        Unreachable, LedgerError, LeaseLost: a server was away; a run that counted as finished would never be made up for.
    """
    platform = Platform.at(workspace)
    state = state_of(platform, version)
    if state not in UNDECIDED:
        summary.verdict = state if state in VERDICTS else None
        terminal.say(stands(version, state))
        return
    try:
        if isinstance(policy, Refusal):
            raise policy
        result = gate(workspace.root, version, settings=policy)
    except (Unreachable, LedgerError, LeaseLost) as error:
        raise type(error)(f"{error}; version {version} is registered: run the same again to gate it") from error
    except Refusal as refusal:
        # With the code of a failed gate it is one: asking again would be answered the same.
        summary.verdict = "failed" if refusal.code == GATE_FAILED else "refused"
        summary.refusal = str(refusal)
        again = (
            "" if summary.verdict == "failed" else f"; version {version} is registered: run the same again to gate it"
        )
        terminal.say(f"gate: {summary.verdict}. {refusal}{again}")
        tell_refused(platform, version, str(refusal))
        return
    summary.gate, summary.verdict = result, result.verdict
    terminal.say(f"gate: {result.verdict}. {result.words.headline}. {result.words.found}")
    terminal.say(f"      {result.page}")
    if gate_policy(workspace.root) != policy:
        terminal.say(
            f"note: gate.yaml was edited since this run began, and its gate held to it as it was: `needledrop gate {version}` "
            "judges by the edited one"
        )
    from flows.lineage.card import log_card

    log_card(platform, version)
    tell_verdict(platform, version, result.verdict, f"{result.words.headline}. {result.words.found}", result.evidence)


# Prefect's own cache could skip a stage that DVC would run; a retry would only repeat a pure function.
@task(cache_policy=NO_CACHE, retries=0, persist_result=False)
def stage_task(
    stage: Stage,
    root: Path,
    run: Run,
    processes: Processes,
    show: Callable[[str, str], None],
    shown: AbstractContextManager[None],
) -> StageResult:
    """Run one stage as a Prefect task, with its inputs as they were when the run began.

    Its lines also go to the task's log, and what it tells meanwhile where `shown` does.
    """
    logger = get_run_logger()

    def both(name: str, line: str) -> None:
        show(name, line)
        logger.info("%s", line)

    with shown:
        return run_stage(stage.name, root, run, processes, both, stage.inputs)


def run_stages(
    graph: Graph,
    workspace: Workspace,
    run: Run,
    processes: Processes,
    terminal: Terminal,
    results: list[StageResult],
    live: Live | None = None,
) -> None:
    """Run what is pending, each stage after its parents, independent ones side by side.

    Results are appended to `results` in the order of the graph. After a failure nothing new starts
    and what runs may end, as in `make`. What a stage writes into a journal is shown by `live`.

    Raises:
        StageFailed: with the words of every stage that failed.
    """
    done = {stage.name: unchanged(stage.name) for stage in graph.stages if stage.name not in graph.pending}
    waiting = [stage for stage in graph.stages if stage.name in graph.pending]
    futures: dict[str, PrefectFuture[StageResult]] = {}
    ended: SimpleQueue[str] = SimpleQueue()
    failures: list[str] = []
    running = 0
    workers = read_environment().workers
    try:
        while running or (waiting and not failures):
            ready = [stage for stage in waiting if all(parent in done for parent in stage.parents)]
            for stage in [] if failures else ready[: workers - running]:
                check()
                waiting.remove(stage)
                terminal.start(stage.name, stage.reasons)
                named = stage_task.with_options(name=stage.name, task_run_name=stage.name)
                parents = [futures[parent] for parent in stage.parents if parent in futures]
                future = named.submit(
                    stage,
                    workspace.root,
                    run,
                    processes,
                    terminal.stage_line,
                    _shown(live, workspace, stage),
                    return_state=False,
                    wait_for=parents,
                )
                futures[stage.name] = future
                future.add_done_callback(partial(_tell, ended, stage.name))
                running += 1
            name = ended.get()
            running -= 1
            try:
                done[name] = futures[name].result()
            except StageFailed as failure:
                failures.append(str(failure))  # told whole at the end, once
                if running:
                    terminal.say(f"stage '{name}' failed; what runs may end, nothing new is started")
    finally:
        results += [done[stage.name] for stage in graph.stages if stage.name in done]
    if failures:
        left = f"\n  not started: {', '.join(stage.name for stage in waiting)}" if waiting else ""
        raise StageFailed("\n".join(failures) + left)


def _shown(live: Live | None, workspace: Workspace, stage: Stage) -> AbstractContextManager[None]:
    if live is None or _JOURNAL not in stage.arguments:
        return nullcontext()
    return live.following(workspace.root / stage.argument(_JOURNAL))


def _tell(ended: "SimpleQueue[str]", name: str, _: PrefectFuture[StageResult]) -> None:
    ended.put(name)


def show_in_prefect(summary: Retrain) -> None:
    """Leave the summary in Prefect, beside the run."""
    rows = [
        {"stage": r.name, "outcome": r.outcome, "seconds": r.seconds, "report": r.report, "log": r.log or ""}
        for r in summary.stages
    ]
    create_table_artifact(key="stages", table=rows, description="What became of each stage")
    lines = [f"Run `{summary.run}`", ""]
    if summary.metrics:
        lines += ["| query | R@10 | low | high | x chance |", "|---|---|---|---|---|"]
        lines += [
            f"| {m['mode']} | {m['value']:.3f} | {m['low']:.3f} | {m['high']:.3f} | {m['times_chance']:.1f} |"
            for m in summary.metrics["modes"]
        ]
    if summary.registration:
        lines += ["", summary.registration.sentence()]
    create_markdown_artifact(key="summary", markdown="\n".join(lines), description="Result of the retrain")


def _opening(graph: Graph, run: Run) -> str:
    total, pending = len(graph.stages), len(graph.pending)
    what = "nothing changed" if not pending else f"{pending} to run"
    return f"run {run.id}: {total} stages, {what}"
