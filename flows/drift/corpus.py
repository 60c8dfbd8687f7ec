"""The workspace's corpus as a sample: features, media numbers and tags of its clips."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.modalities import MUSIC, TAG_GROUPS, VIDEO, Modality
from components.store import FeatureStore
from flows.drift.sample import Sample
from flows.workspace.graph import Graph
from flows.workspace.workspace import Workspace

Grouping = Literal["artist_id", "video_id"]
Row = Mapping[str, Any]

_COLUMNS = (
    "clip_id", "split", "artist_id", "video_id", "bytes", "duration_s", "fps", "height", "sample_rate_hz", "channels",
    "start_s", "end_s",
)  # fmt: skip
_COMPARED: Final[tuple[Modality, ...]] = (VIDEO, MUSIC)
_LEAST_GROUPS, _LARGEST_SHARE = 20, 0.2


class Corpus:
    """What the workspace's files hold now.

    Attributes:
        rows: the manifest's, of clips that have features of pictures and of music.
        listed: ids of every clip of the manifest.
        extractors: digest of the spec that made the features, by modality.
        tagger: digest of what made the tags; None where that is not told.
    """

    def __init__(self, graph: Graph, workspace: Workspace) -> None:
        """Open the files; features are read when asked for.

        Raises:
            ValueError: a file is damaged; it is named.
        """
        self._root, self._graph = workspace.root, graph
        self.stores: dict[Modality, FeatureStore] = {
            modality: FeatureStore.open(self._path("training", modality)) for modality in _COMPARED
        }
        self.extractors: dict[str, str] = {modality: store.digest for modality, store in self.stores.items()}
        manifest = pq.ParquetFile(self._path("indexing", "manifest")).read(columns=list(_COLUMNS)).to_pylist()
        self.listed = [str(row["clip_id"]) for row in manifest]
        self.rows: list[Row] = [
            row for row in manifest if all(row["clip_id"] in store for store in self.stores.values())
        ]
        self.tagger = tagger_digest(self._path("tagging", "tagger"))

    def _path(self, stage: str, argument: str) -> Path:
        return self._root / self._graph[stage].argument(argument)

    def sample(self, rows: Sequence[Row], grouping: Grouping, model: Path | None = None) -> Sample:
        """Return clips with what is measured of them.

        Args:
            rows: some of `self.rows`.
            grouping: column of what clips of one origin share.
            model: folder of a trained model; with it the clips' alignment is measured, except of train clips.
        """
        ids = [str(row["clip_id"]) for row in rows]
        tags = {
            row["clip_id"]: row["tags"] for row in pq.ParquetFile(self._path("indexing", "tags")).read().to_pylist()
        }
        unseen = [row["split"] != "train" for row in rows]
        alignment = np.full(len(ids), np.nan)
        if model is not None and any(unseen):
            alignment[unseen] = self._alignment(model, [clip for clip, new in zip(ids, unseen, strict=True) if new])
        return Sample(
            clip_ids=np.array(ids, np.str_),
            groups=np.array([str(row[grouping]) for row in rows], np.str_),
            features={name: store.means(ids) for name, store in self.stores.items()},
            scalars=_scalars(rows),
            tags=tuple(_names(tags.get(clip, ())) for clip in ids),
            alignment=alignment,
        )

    def _alignment(self, folder: Path, ids: list[str]) -> NDArray[np.float64]:
        """Return the cosine of picture and music embeddings of clips.

        Raises:
            ValueError: the model was trained on features of another extractor, or cannot be read.
        """
        from components.encoder.embed import check_stores, embed_music, embed_queries
        from components.encoder.serialise import load_model

        loaded = load_model(folder)
        check_stores(loaded.features, self.stores)
        pictures = embed_queries(loaded.model, {VIDEO: self.stores[VIDEO]}, ids)
        music = embed_music(loaded.model, self.stores[MUSIC], ids)
        return np.asarray((pictures * music).sum(axis=1), np.float64)


def grouping_of(rows: Sequence[Row]) -> Grouping:
    """Return artists, or videos where the artists are too few or one has too much to be permuted."""
    _, counts = np.unique([str(row["artist_id"]) for row in rows], return_counts=True)
    usable = len(counts) >= _LEAST_GROUPS and counts.max() <= _LARGEST_SHARE * counts.sum()
    return "artist_id" if usable else "video_id"


def tagger_digest(folder: Path) -> str | None:
    """Return the digest of the tagger's configuration, which holds what it was fitted on; None without one."""
    path = folder / "config.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _scalars(rows: Sequence[Row]) -> dict[str, NDArray[np.float64]]:
    def column(name: str) -> NDArray[np.float64]:
        return np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)

    duration = column("duration_s")
    return {
        "length of the file (s)": duration,
        "length of the clip (s)": column("end_s") - column("start_s"),
        "data rate (kbit/s)": column("bytes") * 0.008 / np.maximum(duration, 1e-3),
        "pictures per second": column("fps"),
        "height (pixels)": column("height"),
        "sample rate (Hz)": column("sample_rate_hz"),
        "channels": column("channels"),
    }


def _names(tags: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    ordered = sorted(tags, key=lambda tag: (TAG_GROUPS.index(tag["group"]), -float(tag["probability"]), tag["name"]))
    return tuple(f"{tag['group']}:{tag['name']}" for tag in ordered)
