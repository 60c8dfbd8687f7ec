"""The monitor and MLflow: the champion's reference and model come from it, each comparison is a run in it."""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.drift.stored import FOLDER, Reference, read_reference
from flows.errors import Refusal
from flows.ledger.lease import check
from flows.registry.hints import is_away
from flows.registry.tracking import MODEL, Unreachable, experiment_id
from flows.release.mirror import CHAMPION, standing
from flows.release.releases import Release
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

EXPERIMENT = "needledrop-monitor"
TRIGGER_TAG, CHAMPION_TAG, OUTCOME_TAG = "needledrop.trigger", "needledrop.champion", "needledrop.outcome"


def fetch_reference(version: int, run_id: str, scratch: Path) -> Reference:
    """Read the champion's reference from its run.

    Raises:
        Refusal: the run has none, or it cannot be read.
        Unreachable: the artifact store does not answer.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        folder = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=FOLDER, dst_path=str(scratch))
    except (MlflowException, OSError) as error:
        if is_away(str(error)):
            raise Unreachable(
                f"the champion's artifacts cannot be read now: {' '.join(str(error).split())[-200:]}"
            ) from error
        raise Refusal(
            f"the run of version {version}, the champion, has no {FOLDER} to compare with "
            f"({' '.join(str(error).split())[:120]}); promote a version that has one, or restore its artifacts"
        ) from error
    return read_reference(Path(folder))


def champion_reference(platform: Platform) -> tuple[int, Reference | None] | None:
    """Return the version that the ledger has as champion, and its reference.

    The reference is None where the run has none that this platform reads: versions of earlier releases. None for both
    where there is no champion.

    Raises:
        Unreachable: the artifact store does not answer.
    """
    now = standing(platform)
    champion = next((release for release in now.releases if release.version == now.aliases.get(CHAMPION)), None)
    if champion is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            reference = fetch_reference(champion.version, champion.run_id, Path(scratch))
        except Unreachable:
            raise
        except Refusal as error:
            log.warning("the corpus is not compared with the champion's: %s", error)
            return champion.version, None
    return champion.version, reference


def fetch_model(release: Release, scratch: Path) -> Path | None:
    """Return the champion's model folder; None where it cannot be had, and alignment is not compared."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        folder = mlflow.artifacts.download_artifacts(f"models:/{MODEL}/{release.version}", dst_path=str(scratch))
    except (MlflowException, OSError):
        return None
    model = Path(folder) / "artifacts" / "model"
    return model if model.is_dir() else None


def log_run(
    client: "MlflowClient",
    workspace: Workspace,
    folder: Path,
    tags: dict[str, str],
    facts: dict[str, Any],
) -> str:
    """Log a comparison: one run for each manifest and champion, written again when they are compared again.

    Args:
        client: of the tracking store.
        workspace: where artifacts go when there is no server.
        folder: the pages.
        tags: `TRIGGER_TAG` and `CHAMPION_TAG` name the comparison; more may be given.
        facts: `compare.as_json` of it.

    Returns:
        The run's id.
    """
    import mlflow

    experiment = experiment_id(client, workspace, EXPERIMENT)
    known = " and ".join(f"tags.`{name}` = '{tags[name]}'" for name in (TRIGGER_TAG, CHAMPION_TAG))
    earlier = client.search_runs([experiment], known, max_results=1)
    name = f"{facts['outcome']}: {facts['new_clips']} new clips"
    check()
    with mlflow.start_run(
        run_id=earlier[0].info.run_id if earlier else None, experiment_id=experiment, run_name=name
    ) as run:
        mlflow.set_tags({**tags, "mlflow.runName": name})
        mlflow.log_metrics(metrics_of(facts))
        mlflow.log_artifacts(str(folder), "report")
        return str(run.info.run_id)


def metrics_of(facts: dict[str, Any]) -> dict[str, float]:
    """Return the few figures by which comparisons are told apart."""
    figures = {name: float(facts[name]) for name in ("new_clips", "gone_clips", "groups")}
    figures |= {f"adjusted_p/{family['name']}": family["adjusted"] for family in facts["families"]}
    if facts["harm"]:
        figures["predicted_harm"] = facts["harm"]["change"]
    return figures
