"""A corpus as a small table that another corpus can be compared with, and the basis behind it.

Embeddings are shown by a few principal components of each clip's mean features. The basis is kept
with the model version, so that a later corpus is measured along the same axes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.modalities import MUSIC, TAG_GROUPS, VIDEO
from components.store import FeatureStore
from components.tables import write_table
from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace

COMPONENTS = 4
TABLE, BASIS = "clips.parquet", "basis.safetensors"
_NO_TAG = "none"


@dataclass(frozen=True)
class Basis:
    """Principal axes of one modality's features.

    Attributes:
        digest: of the extractor; features of another cannot be projected.
        mean: (D,) and scale: (D,), of the clips it was fitted on.
        axes: (C, D) unit vectors.
    """

    digest: str
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    axes: NDArray[np.float32]

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, C) coordinates of (N, D) features."""
        return np.asarray((features - self.mean) / self.scale @ self.axes.T, np.float32)


def fit_basis(features: NDArray[np.float32], digest: str) -> Basis:
    """Fit the basis on (N, D) features; features that never change get no weight."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6, scale, np.inf).astype(np.float32)
    _, _, axes = np.linalg.svd((features - mean) / scale, full_matrices=False)
    # The sign of an axis is arbitrary; fixed, so that equal data gives an equal basis.
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    return Basis(digest, mean, scale, (axes * signs)[:COMPONENTS].astype(np.float32))


def describe_corpus(graph: Graph, workspace: Workspace) -> tuple[pd.DataFrame, dict[str, FeatureStore]]:
    """Return one row per clip that has features (split, duration, caption length, best tags), and the stores."""

    def path(stage: str, argument: str) -> Path:
        return workspace.root / graph[stage].argument(argument)

    stores = {modality: FeatureStore.open(path("training", modality)) for modality in (VIDEO, MUSIC)}
    clips = pq.ParquetFile(path("indexing", "manifest")).read(columns=["clip_id", "split", "duration_s"]).to_pylist()
    tags = {row["clip_id"]: row["tags"] for row in pq.ParquetFile(path("indexing", "tags")).read().to_pylist()}
    texts = pq.ParquetFile(path("captioning", "captions")).read(columns=["clip_id", "text"]).to_pylist()
    words = {row["clip_id"]: len(row["text"].split()) for row in texts}
    rows = [
        clip | {"caption_words": words.get(clip["clip_id"], 0)} | _best(tags.get(clip["clip_id"], []))
        for clip in clips
        if all(clip["clip_id"] in store for store in stores.values())
    ]
    return pd.DataFrame(rows), stores


def with_components(
    table: pd.DataFrame, stores: Mapping[str, FeatureStore], bases: Mapping[str, Basis]
) -> pd.DataFrame:
    """Return the table with `video_1`, ... columns; a modality whose extractor is another gets none."""
    table = table.copy()
    for modality, basis in bases.items():
        if stores[modality].digest == basis.digest:
            coordinates = basis.project(stores[modality].means(list(table["clip_id"])))
            for number in range(coordinates.shape[1]):
                table[f"{modality}_{number + 1}"] = coordinates[:, number]
    return table


def write_reference(folder: Path, table: pd.DataFrame, bases: Mapping[str, Basis]) -> None:
    """Write the table and its basis into `folder`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / TABLE, pa.Table.from_pandas(table, preserve_index=False))
    arrays = {
        f"{name}.{part}": getattr(basis, part) for name, basis in bases.items() for part in ("mean", "scale", "axes")
    }
    save_file(arrays, folder / BASIS, metadata={name: basis.digest for name, basis in bases.items()})


def read_reference(folder: Path) -> tuple[pd.DataFrame, dict[str, Basis]]:
    """Read what `write_reference` wrote."""
    from safetensors import safe_open

    table = pq.ParquetFile(folder / TABLE).read().to_pandas()
    with safe_open(folder / BASIS, framework="numpy") as file:
        bases = {
            name: Basis(digest, *(file.get_tensor(f"{name}.{part}") for part in ("mean", "scale", "axes")))
            for name, digest in file.metadata().items()
        }
    return table, bases


def _best(tags: list[dict[str, Any]]) -> dict[str, str]:
    best: dict[str, str] = dict.fromkeys(TAG_GROUPS, _NO_TAG)
    for tag in sorted(tags, key=lambda tag: float(tag["probability"]), reverse=True):
        if best.get(tag["group"]) == _NO_TAG:
            best[tag["group"]] = tag["name"]
    return best
