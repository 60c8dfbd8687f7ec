"""The study in MLflow: one parent run, and a child for each row so that reviewers compare them there."""

from pathlib import Path

import mlflow

from flows.registry.tracking import EXPERIMENT, answering, connect
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from research.tables import Study


def record_study(study: Study, page: Path, workspace: Workspace) -> str:
    """Log the page, the figures and every row; return the parent run's id.

    Raises:
        Unreachable: MLflow does not answer.
    """
    platform = Platform.at(workspace)
    connect(platform)
    with answering(platform.tracking_uri):
        mlflow.set_experiment(f"{EXPERIMENT}-study")
        with mlflow.start_run(run_name="study") as parent:
            mlflow.log_artifact(str(page))
            for figure in sorted(page.parent.glob("study-*.png")):
                mlflow.log_artifact(str(figure))
            mlflow.log_metrics({f"claim/{at + 1}": v.found["value"] for at, v in enumerate(study.verdicts)})
            mlflow.set_tags({f"claim/{at + 1}": f"{v.claim.says}: {v.held}" for at, v in enumerate(study.verdicts)})
            for letter in study.settings.experiments:
                for row in study.tables[letter]:
                    _record_row(study, letter, row)
            for system, figures in (study.videos or {"systems": {}})["systems"].items():
                _record_videos(system, figures)
            return str(parent.info.run_id)


def _record_videos(system: str, figures: dict[str, dict[str, float]]) -> None:
    with mlflow.start_run(run_name=f"music videos. {system}", nested=True):
        mlflow.set_tags({"experiment": "music videos", "row": system})
        for name, found in figures.items():
            mlflow.log_metrics({f"{name.replace('@', '_at_')}/{side}": value for side, value in found.items()})


def _record_row(study: Study, letter: str, row: dict[str, object]) -> None:
    measured = study.rows[letter, str(row["row"])]
    job = measured.jobs[0]
    with mlflow.start_run(run_name=f"{letter}. {row['row']}", nested=True):
        mlflow.set_tags({"experiment": letter, "row": str(row["row"]), "fit": job["fit"], "text": job["text"]})
        mlflow.log_params({"seeds": len(measured.folders), "clips": job["clips"] or "all"})
        mlflow.log_dict(job["sections"], "sections.json")
        recall, share, median = row["recall"], row["share"], row["median"]
        assert isinstance(recall, dict) and isinstance(share, dict) and isinstance(median, dict)  # noqa: S101
        for mode, found in recall.items():
            name = mode.replace("+", "-and-")
            mlflow.log_metrics({f"{name}/R_at_{k}": interval["value"] for k, interval in found.items()})
            mlflow.log_metrics({f"{name}/R_at_10_{side}": found[10][side] for side in ("low", "high")})
            mlflow.log_metrics({f"{name}/of_oracle": share[mode], f"{name}/MedR": median[mode]})
        mlflow.log_metric("cpu_s", sum(job["cpu_s"] for job in measured.jobs))
