"""Embeddings of clips straight from feature stores, in batches.

Shapes: N clips, B of a batch, S segments, D feature dims, F embedding dims.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from components.encoder.model import Arrays, TrimodalModel
from components.modalities import QUERY, TEXT, VIDEO, Modality
from components.store import FeatureStore


class Gathers(Protocol):
    """What embedding needs of a store."""

    def gather(self, clip_ids: Sequence[str]) -> Arrays:
        """Return (B, S, D) features and the (B, S) mask of clips."""
        ...


# The query modes in which a model is measured, and what each may see.
MODES: Final[dict[str, tuple[Modality, ...]]] = {"video": (VIDEO,), "text": (TEXT,), "video+text": (VIDEO, TEXT)}

# Fixed, because the arithmetic of a batch can depend on its size in the last bit.
BATCH = 256


def check_stores(digests: Mapping[Modality, str], stores: Mapping[Modality, FeatureStore]) -> None:
    """Refuse features that the model was not trained on.

    Raises:
        ValueError: a store's spec differs from the one recorded with the model.
    """
    for modality, store in stores.items():
        if store.digest != digests[modality]:
            raise ValueError(
                f"{modality} features were made by another extractor (spec {store.digest[:12]}) than the model was "
                f"trained on ({digests[modality][:12]}); run features and training again together"
            )


def embed_music(model: TrimodalModel, store: Gathers, clip_ids: Sequence[str]) -> NDArray[np.float32]:
    """Return y_m (N, F) of clips, in the order given."""
    return _batched(model, clip_ids, lambda ids: model.embed_music(store.gather(ids)))


def embed_queries(
    model: TrimodalModel, stores: Mapping[Modality, Gathers], clip_ids: Sequence[str]
) -> NDArray[np.float32]:
    """Return y_vt (N, F) of clips from the query modalities in ``stores``, in the order given."""

    def of(ids: Sequence[str]) -> NDArray[np.float32]:
        arrays: dict[Modality, Arrays] = {m: stores[m].gather(ids) for m in QUERY if m in stores}
        return model.embed_query(video=arrays.get(VIDEO), text=arrays.get(TEXT))

    return _batched(model, clip_ids, of)


def _batched(
    model: TrimodalModel, clip_ids: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    out = np.zeros((len(clip_ids), model.embedding_dims), np.float32)  # (N, F)
    for start in range(0, len(clip_ids), BATCH):
        out[start : start + BATCH] = embed(clip_ids[start : start + BATCH])
    return out
