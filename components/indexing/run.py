"""From a model and features to what the catalogue holds."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.encoder.device import deterministic_device
from components.encoder.embed import check_stores, embed_music
from components.encoder.serialise import LoadedModel
from components.indexing.catalogue import catalogue_rows
from components.indexing.params import IndexingSection
from components.modalities import MUSIC
from components.store import FeatureStore

log = logging.getLogger(__name__)


def make_catalogue(
    loaded: LoadedModel,
    music: FeatureStore,
    manifest: Sequence[dict[str, Any]],
    tags: Sequence[dict[str, Any]],
    section: IndexingSection,
) -> tuple[list[dict[str, Any]], NDArray[np.float32], dict[str, Any]]:
    """Return catalogue rows, their embeddings (N, E) and the facts that bind them to the model.

    Raises:
        ValueError: features of another extractor, or no clip with music features.
    """
    check_stores(loaded.features, {MUSIC: music})
    device = deterministic_device(section.threads)
    heard = [row for row in manifest if row["clip_id"] in music]
    if not heard:
        raise ValueError(f"{music.folder}: no clip of the manifest has music features; nothing to index")
    rows = catalogue_rows(heard, tags, section.tag_threshold)
    embeddings = embed_music(loaded.model.to(device), music, [row["clip_id"] for row in rows])
    log.info("indexing: %d clips (%d without music features left out)", len(rows), len(manifest) - len(heard))
    return rows, embeddings, {"model": loaded.digest, "music_features": music.digest}
