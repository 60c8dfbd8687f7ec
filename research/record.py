"""The study in MLflow: one parent run, and a child for each row so that reviewers compare them there."""

from pathlib import Path

import mlflow

from flows.registry.tracking import EXPERIMENT, answering, connect
from flows.workspace.platform import Platform
from flows.workspace.workspace import Workspace
from research.music_video_report import SystemFigures
from research.tables import Study, TableRow


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
            mlflow.log_metrics({f"claim/{at + 1}": v.estimate.value for at, v in enumerate(study.verdicts)})
            mlflow.set_tags({f"claim/{at + 1}": f"{v.claim.says}: {v.held}" for at, v in enumerate(study.verdicts)})
            for letter in study.settings.experiments:
                for row in study.tables[letter]:
                    _record_row(study, letter, row)
            for system, figures in (study.videos.systems if study.videos else {}).items():
                _record_videos(system, figures)
            return str(parent.info.run_id)


def _record_videos(system: str, figures: SystemFigures) -> None:
    with mlflow.start_run(run_name=f"music videos. {system}", nested=True):
        mlflow.set_tags({"experiment": "music videos", "row": system})
        for name, interval in (("median_share", figures.median_share), ("R_at_10", figures.recall_at_10)):
            mlflow.log_metrics({f"{name}/{end}": value for end, value in interval.model_dump().items()})


def _record_row(study: Study, letter: str, row: TableRow) -> None:
    result = study.rows[letter, row.name]
    job = result.jobs[0]
    with mlflow.start_run(run_name=f"{letter}. {row.name}", nested=True):
        mlflow.set_tags({"experiment": letter, "row": row.name, "fit": job["fit"], "text": job["text"]})
        mlflow.log_params({"seeds": len(result.folders), "clips": job["clips"] or "all"})
        mlflow.log_dict(job["sections"], "sections.json")
        for mode, recall in row.recall.items():
            name = mode.replace("+", "-and-")
            mlflow.log_metrics({f"{name}/R_at_{k}": interval.value for k, interval in recall.items()})
            mlflow.log_metrics({f"{name}/R_at_10_low": recall[10].low, f"{name}/R_at_10_high": recall[10].high})
            mlflow.log_metrics({f"{name}/of_oracle": row.share[mode], f"{name}/MedR": row.median[mode]})
        mlflow.log_metric("cpu_s", sum(job["cpu_s"] for job in result.jobs))
