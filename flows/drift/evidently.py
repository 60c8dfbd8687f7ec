"""Evidently's report: distributions of every measure, to read through. It decides nothing.

It is written twice: beside the monitor's page, and at registration, where a corpus is set beside the champion's.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from components.modalities import TAG_GROUPS
from components.pages.page import render
from components.stage import atomic_file
from flows.drift.basis import Basis
from flows.drift.sample import Sample
from flows.drift.stored import Reference

if TYPE_CHECKING:
    import pandas as pd

LEAST_CLIPS: Final = 5
"""On either side; fewer make no distribution."""
COMPONENTS: Final = 4
"""Principal components that are shown of a modality; one column per dimension would drown the rest."""
_NO_TAG: Final = "none"
_HEADING: Final = Path(__file__).with_name("evidently_heading.html")
_EMPTY: Final = Path(__file__).with_name("evidently.html")


def table_of(sample: Sample, bases: Mapping[str, Basis]) -> "pd.DataFrame":
    """Return a row per clip: media numbers, alignment, a few components per modality, best tag of each group.

    What is known of no clip has no column.

    Args:
        sample: the clips.
        bases: of the modalities to show.
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
    for group in TAG_GROUPS if any(sample.tags) else ():
        best = [next((tag for tag in tags if tag.startswith(f"{group}:")), f":{_NO_TAG}") for tags in sample.tags]
        # Evidently writes names as they are into its scripts, where one could end the script and begin another.
        table[group] = [tag.partition(":")[2].replace("<", "&lt;") for tag in best]
    return table


def write_evidently(path: Path, reference: "pd.DataFrame", current: "pd.DataFrame", heading: str) -> None:
    """Write the HTML report of the columns that both tables have; what only one has is named at the top."""
    shared = [name for name in reference.columns if name in current.columns]
    alone = [name for name in (*reference.columns, *current.columns) if name not in shared]
    said = [heading, f"Not compared, as only one side has them: {', '.join(alone)}."] if alone else [heading]
    if min(len(reference), len(current)) < LEAST_CLIPS:
        few = f"Too few clips to compare: {len(current)} with {len(reference)}"
        text = render(_EMPTY, title="Needledrop: distributions", headline=few, said=said)
    else:
        heading = render(_HEADING, said=said)
        text = _report(reference[shared], current[shared]).replace("<body>", f"<body>{heading}", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_corpus_report(
    path: Path, own: Reference, splits: Mapping[str, str], champion: tuple[int, Reference | None] | None
) -> None:
    """Write the report of a corpus against the champion's, along the champion's components.

    Args:
        path: of the page.
        own: the reference of this corpus.
        splits: by clip id.
        champion: its version, and its reference where it can be read; without one the test split is set beside the
            train split.
    """
    version, reference = champion or (None, None)
    if reference is not None:
        bases, notes = comparable(reference, own)
        current = own.sample if reference.head.same_tagger(own.head.tagger) else own.sample.without_tags()
        said = f"This corpus (current) against that of the champion, version {version} (reference)."
        write_evidently(path, table_of(reference.sample, bases), table_of(current, bases), " ".join([said, *notes]))
        return
    train, test = (
        own.sample.take(np.flatnonzero([splits.get(str(clip)) == split for clip in own.sample.clip_ids]))
        for split in ("train", "test")
    )
    why = "No champion yet"
    if version is not None:
        why = f"The champion, version {version}, keeps no reference that this platform can read"
    said = f"{why}: the test split of this corpus (current) against its train split (reference)."
    bases = own.prepared().bases
    # No clip of the train split has an alignment: the model was trained on it.
    write_evidently(
        path, table_of(train, bases), table_of(test, bases).drop(columns="alignment", errors="ignore"), said
    )


def comparable(reference: Reference, own: Reference) -> tuple[dict[str, Basis], list[str]]:
    """Return the bases of modalities that one extractor made on both sides, and what is left out, in words."""
    same = {
        name: basis
        for name, basis in reference.prepared().bases.items()
        if own.head.extractors.get(name) == reference.head.extractors[name]
    }
    other = sorted(set(reference.head.extractors) - set(same))
    notes = [f"Not compared, made by another extractor: {', '.join(other)}."] if other else []
    if not reference.head.same_tagger(own.head.tagger):
        notes.append("Tags are not compared: another tagger gave them.")
    return same, notes


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
