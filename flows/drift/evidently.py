"""The Evidently report beside our page: distributions to read through. It decides nothing."""

import html
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities import TAG_GROUPS
from flows.drift.basis import Basis
from flows.drift.sample import Sample

if TYPE_CHECKING:
    import pandas as pd

LEAST_CLIPS = 5  # on either side; fewer make no distribution
COMPONENTS = 4
_NO_TAG = "none"


def table_of(sample: Sample, bases: dict[str, Basis]) -> "pd.DataFrame":
    """Return a row per clip: media numbers, best tag of each group, alignment, a few components per modality.

    Args:
        sample: the clips.
        bases: of the modalities to show; one column per dimension of an embedding would drown the rest.
    """
    import pandas as pd

    columns: dict[str, Any] = dict(sample.scalars)
    if np.isfinite(sample.alignment).any():
        columns["alignment"] = sample.alignment
    for name, basis in bases.items():
        coordinates = basis.project(sample.features[name])[:, :-1]
        columns |= {
            f"{name} component {n + 1}": coordinates[:, n] for n in range(min(COMPONENTS, coordinates.shape[1]))
        }
    table = pd.DataFrame(columns)
    for group in TAG_GROUPS:
        best = [next((tag for tag in tags if tag.startswith(f"{group}:")), f":{_NO_TAG}") for tags in sample.tags]
        table[group] = [tag.partition(":")[2] for tag in best]
    return table


def write_evidently(path: Path, reference: "pd.DataFrame", current: "pd.DataFrame", heading: str) -> None:
    """Write the HTML report of the columns that both tables have."""
    if min(len(reference), len(current)) < LEAST_CLIPS:
        words = f"Too few clips to compare: {len(reference)} and {len(current)}."
        text = f"<!DOCTYPE html><html><head>{_CHARSET}</head><body>{_top(heading)}<p>{words}</p></body></html>"
    else:
        shared = [name for name in reference.columns if name in current.columns]
        text = _report(reference[shared], current[shared]).replace("<body>", f"<body>{_top(heading)}", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _report(reference: "pd.DataFrame", current: "pd.DataFrame") -> str:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    definition = DataDefinition(
        numerical_columns=[name for name in reference.columns if name not in TAG_GROUPS],
        categorical_columns=[name for name in TAG_GROUPS if name in reference.columns],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small samples and constant columns make scipy warn
        data = [Dataset.from_pandas(table, data_definition=definition) for table in (current, reference)]
        text: str = Report([DataDriftPreset(), DataSummaryPreset()]).run(*data).get_html_str(as_iframe=False)
    return text


def _top(text: str) -> str:
    style = "font: 16px system-ui, sans-serif; margin: 24px; max-width: 60rem"
    return f'<div style="{style}"><h1 style="font-size: 24px">Needledrop: distributions</h1><p>{html.escape(text)}</p></div>'


_CHARSET = '<meta charset="utf-8">'
