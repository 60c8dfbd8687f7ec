"""The reference that is kept with a model version: what its media were like, and how to compare with them.

reference.json          digests, calibration, recall by genre
clips.parquet           a sample of clips: group, media numbers, tags, alignment
features.safetensors    (N, D) float16 by modality, rows as in clips.parquet
known.parquet           ids of every clip of the manifest: all others are new
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from components.modalities import MODALITIES
from components.stage import atomic_folder
from components.tables import write_table
from flows.drift.corpus import Corpus, Grouping, grouping_of
from flows.drift.decide import Prepared, Tried, calibrate, prepare
from flows.drift.harm import Slice, slices_of
from flows.drift.sample import Sample
from flows.drift.settings import read_settings
from flows.errors import Refusal
from flows.registry.digest import locked_outputs
from flows.workspace.graph import Graph
from flows.workspace.results import read_metrics
from flows.workspace.workspace import Workspace

FOLDER = "drift-reference"
"""Artifact folder of the model's run."""
FORMAT = "needledrop.drift-reference/1"
HEAD, CLIPS, FEATURES, KNOWN = "reference.json", "clips.parquet", "features.safetensors", "known.parquet"
_PLAIN = ("clip_id", "group", "tags", "alignment")


class Head(BaseModel):
    """reference.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    """Version of this layout."""
    manifest: str
    """Digest of the manifest, from dvc.lock."""
    clips: int
    """Clips of the manifest."""
    grouping: Grouping
    """What clips of one origin share."""
    extractors: dict[str, str]
    """Spec digest of the features, by modality."""
    tagger: str | None
    """Digest of what made the tags; null where that is not told, and tags are not compared."""
    components: int
    """Principal components per modality that the calibration used."""
    calibration: tuple[Tried, ...]
    """The decision on windows of the reference itself, by size; empty where it is too small for any."""
    recall: float | None
    """Fused R@10 of the model on its test clips."""
    slices: tuple[Slice, ...]
    """The same by genre."""

    def same_tagger(self, digest: str | None) -> bool:
        """Tell whether a tagger is known to be the one that gave the reference's tags: only then they compare."""
        return digest is not None and digest == self.tagger


@dataclass(frozen=True)
class Reference:
    """A stored reference.

    Attributes:
        head: its digests, calibration and recall.
        sample: the clips that were kept.
        known: ids of every clip of its manifest.
    """

    head: Head
    sample: Sample
    known: frozenset[str]

    def prepared(self) -> Prepared:
        """Return it ready to be compared with; the same for the same files."""
        return prepare(self.sample, self.head.components)


def write_reference(graph: Graph, workspace: Workspace, folder: Path) -> Reference:
    """Write the reference of the workspace's corpus and model into `folder`, calibrated, and return it.

    The calibration takes seconds: some hundred windows are compared; see drift.yaml.

    Raises:
        Refusal: drift.yaml is wrong, or dvc.lock does not know the manifest.
    """
    settings = read_settings(workspace.root)
    corpus = Corpus(graph, workspace)
    draw = np.random.default_rng(settings.seed)
    kept = np.sort(draw.permutation(len(corpus.rows))[: settings.reference_clips])
    grouping = grouping_of(corpus.rows)
    model = workspace.root / graph["training"].argument("model")
    sample = _rounded(corpus.sample([corpus.rows[row] for row in kept], grouping, model))
    manifest = locked_outputs(workspace.root)[str(graph["indexing"].argument("manifest"))]
    recall, slices = slices_of(read_metrics(graph))
    head = Head(
        format=FORMAT,
        manifest=manifest,
        clips=len(corpus.listed),
        grouping=grouping,
        extractors=corpus.extractors,
        tagger=corpus.tagger,
        components=settings.components,
        calibration=calibrate(prepare(sample, settings.components), settings),
        recall=recall,
        slices=slices,
    )
    reference = Reference(head, sample, frozenset(corpus.listed))
    save(folder, reference)
    return reference


def save(folder: Path, reference: Reference) -> None:
    """Write a reference; the folder appears whole or not at all."""
    from safetensors.numpy import save_file

    sample = reference.sample
    columns: dict[str, Any] = {
        "clip_id": sample.clip_ids.tolist(),
        "group": sample.groups.tolist(),
        "tags": [list(tags) for tags in sample.tags],
        "alignment": sample.alignment,
        **sample.scalars,
    }
    with atomic_folder(folder) as part:
        (part / HEAD).write_text(reference.head.model_dump_json(indent=2) + "\n", encoding="utf-8")
        write_table(part / CLIPS, pa.table(columns))
        write_table(part / KNOWN, pa.table({"clip_id": sorted(reference.known)}))
        save_file({name: array.astype(np.float16) for name, array in sample.features.items()}, part / FEATURES)


def read_reference(folder: Path) -> Reference:
    """Read what `write_reference` wrote.

    Raises:
        Refusal: a file is missing, damaged, or of another version of the platform; it is named.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        head = Head.model_validate_json((folder / HEAD).read_text(encoding="utf-8"))
        table = pq.ParquetFile(folder / CLIPS).read()
        known = pq.ParquetFile(folder / KNOWN).read().column("clip_id").to_pylist()
        arrays = load_file(folder / FEATURES)
        sample = Sample(
            clip_ids=np.array(table.column("clip_id").to_pylist(), np.str_),
            groups=np.array(table.column("group").to_pylist(), np.str_),
            features={name: arrays[name].astype(np.float32) for name in sorted(arrays, key=MODALITIES.index)},
            scalars={name: table.column(name).to_numpy() for name in table.column_names if name not in _PLAIN},
            tags=tuple(tuple(tags) for tags in table.column("tags").to_pylist()),
            alignment=table.column("alignment").to_numpy(),
        )
    except (OSError, ValueError, KeyError, ValidationError, SafetensorError, pa.ArrowException) as error:
        words = " ".join(str(error).split())[:200]
        raise Refusal(f"the reference in {folder.name} cannot be read ({words}); register the model again") from None
    if head.format != FORMAT:
        raise Refusal(f"the reference is of format {head.format}, this platform reads {FORMAT}; register again")
    if any(len(array) != len(sample) for array in sample.features.values()):
        raise Refusal(f"the reference in {folder.name} is damaged: its files differ in clips; register the model again")
    return Reference(head, sample, frozenset(known))


def refuse_other_extractor(head: Head, extractors: Mapping[str, str]) -> None:
    """Refuse features that cannot be compared with the reference's.

    Raises:
        Refusal: they were made by another extractor; a changed extractor is not drift.
    """
    for name, digest in head.extractors.items():
        if extractors.get(name) != digest:
            raise Refusal(
                f"{name} features are made by another extractor now (spec {extractors.get(name, 'none')[:12]}) than the "
                f"champion's ({digest[:12]}): that is no drift, and nothing can be compared; run `needledrop retrain`, "
                "then gate and promote a model of the new features"
            )


def _rounded(sample: Sample) -> Sample:
    """Return the sample as it will be read back, so that it is calibrated on the very numbers that are kept."""
    features = {name: array.astype(np.float16).astype(np.float32) for name, array in sample.features.items()}
    return replace(sample, features=features)
