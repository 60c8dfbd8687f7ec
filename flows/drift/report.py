"""The Evidently report that people read: this corpus against the one the champion was made from."""

import html
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from components.modalities import TAG_GROUPS
from flows.drift.reference import (
    Basis,
    describe_corpus,
    fit_basis,
    read_reference,
    with_components,
    write_reference,
)
from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPORT = "corpus.html"
FOLDER = "reference"
_LEAST_CLIPS = 5  # on either side; fewer make no distribution


def log_report(client: "MlflowClient", graph: Graph, workspace: Workspace) -> None:
    """Write the report into the workspace, and it and this corpus's reference into the active run."""
    import mlflow

    table, stores = describe_corpus(graph, workspace)
    train = table["split"] == "train"
    bases = {
        name: fit_basis(store.means(list(table[train]["clip_id"])), store.digest) for name, store in stores.items()
    }
    champion = champion_reference(client)
    own = with_components(table, stores, bases)
    if champion is None:
        reference, current = own[train], own[table["split"] == "test"]
        heading = "No champion yet: the test split of this corpus (current) against its train split (reference)."
    else:
        version, reference, champion_bases = champion
        current = with_components(table, stores, champion_bases)
        heading = f"This corpus (current) against that of the champion, version {version} (reference)."
    path = workspace.reports / REPORT
    write_report(path, reference, current, heading)
    mlflow.log_artifact(str(path), "reports")
    with tempfile.TemporaryDirectory() as scratch:
        write_reference(Path(scratch), own, bases)
        mlflow.log_artifacts(scratch, FOLDER)


def champion_reference(client: "MlflowClient") -> tuple[str, pd.DataFrame, dict[str, Basis]] | None:
    """Return the champion's version and reference; None where there is no champion."""
    import mlflow

    from flows.registry.tracking import MODEL
    from flows.release.mirror import CHAMPION, RUN_TAG

    registered = {model.name: model for model in client.search_registered_models(f"name = '{MODEL}'")}
    number = registered[MODEL].aliases.get(CHAMPION) if MODEL in registered else None
    if number is None:
        return None
    run_id = client.get_model_version(MODEL, str(number)).tags[RUN_TAG]
    with tempfile.TemporaryDirectory() as scratch:
        folder = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=FOLDER, dst_path=scratch)
        return str(number), *read_reference(Path(folder))


def write_report(path: Path, reference: pd.DataFrame, current: pd.DataFrame, heading: str) -> None:
    """Write the HTML report of the columns that both tables have.

    A column that only one has (another extractor) or that is empty is left out and named at the top.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small samples and constant columns make scipy warn
        path.parent.mkdir(parents=True, exist_ok=True)
        shared = [name for name in reference.columns if name in current.columns and name not in ("clip_id", "split")]
        absent = sorted((set(reference.columns) ^ set(current.columns)) - {"clip_id", "split"})
        if absent:
            heading += f" Not compared, made by another extractor: {', '.join(absent)}."
        if min(len(reference), len(current)) < _LEAST_CLIPS:
            body = f"<html><body>{_heading(heading)}<p>Too few clips to compare: {len(reference)} and {len(current)}.</p></body></html>"
        else:
            body = _evidently(reference[shared], current[shared]).replace("<body>", f"<body>{_heading(heading)}", 1)
        path.write_text(body, encoding="utf-8")


def _evidently(reference: pd.DataFrame, current: pd.DataFrame) -> str:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    definition = DataDefinition(
        numerical_columns=[name for name in reference.columns if name not in TAG_GROUPS],
        categorical_columns=[name for name in TAG_GROUPS if name in reference.columns],
    )
    data = [Dataset.from_pandas(table, data_definition=definition) for table in (current, reference)]
    text: str = Report([DataDriftPreset(), DataSummaryPreset()]).run(*data).get_html_str(as_iframe=False)
    return text


def _heading(text: str) -> str:
    style = "font: 16px sans-serif; margin: 24px"
    return (
        f'<div style="{style}"><h1 style="font-size: 24px">Needledrop: the corpus</h1><p>{html.escape(text)}</p></div>'
    )
