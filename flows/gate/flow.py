"""The gate as a Prefect flow."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.gate.run import GateResult, run_gate
from flows.gate.settings import GateSettings
from flows.workspace.begin import check
from flows.workspace.graph import load_graph
from flows.workspace.lock import hold
from flows.workspace.platform import Platform
from flows.workspace.workspace import find_workspace


@flow(name="gate", retries=0, persist_result=False)
def gate(root: Path, version: int | None = None, settings: GateSettings | None = None) -> GateResult:
    """Hold a model version against the champion, and write down whether it may be promoted.

    Args:
        root: The project's folder, where dvc.yaml is.
        version: The model version; empty means the challenger, which is what was registered last.
        settings: By which it is judged; empty means gate.yaml as it is now.

    Returns:
        Verdict, words, checks and the report's paths.

    Raises:
        Refusal: it cannot be gated; the message says why, and nothing has changed.
    """
    workspace = find_workspace(root)
    platform = Platform.prepared(workspace)
    check(workspace)
    with hold(workspace):
        result = run_gate(load_graph(workspace.root), platform, version, settings)
    create_markdown_artifact(key="gate", markdown=_markdown(result), description="Verdict of the gate")
    return result


def _markdown(result: GateResult) -> str:
    lines = [f"**{result.words.headline}.** {result.words.found} {result.words.next}", ""]
    lines += ["| check | found | limit | outcome |", "|---|---|---|---|"]
    lines += [f"| {check.asks} | {check.found} | {check.limit} | {check.outcome} |" for check in result.checks]
    return "\n".join([*lines, "", f"Report: `{result.page}`, sha256 `{result.evidence}`"])
