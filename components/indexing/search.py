"""Search in a written catalogue: the best clips for a query embedding, in a stable order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components import tables
from components.indexing.catalogue import CATALOGUE, EMBEDDINGS, INDEX, META, TABLE
from components.indexing.index import load_faiss


class Catalogue:
    """A catalogue that can be searched.

    Attributes:
        meta: model digest, dims, counts, kind of index.
        rows: catalogue rows by clip id.
        embeddings: (N, E) unit vectors, memory-mapped.
    """

    def __init__(
        self, meta: dict[str, Any], rows: list[dict[str, Any]], embeddings: NDArray[np.float32], index: Any
    ) -> None:
        self.meta, self.rows, self.embeddings, self._index = meta, rows, embeddings, index

    @classmethod
    def open(cls, folder: Path, model_digest: str | None = None) -> "Catalogue":
        """Open a catalogue that the indexing stage wrote.

        Args:
            folder: the stage's output.
            model_digest: when given, the model whose queries will be asked; another's index is refused.

        Raises:
            ValueError: a file is missing or damaged, they do not belong together, or the model is another.
        """
        faiss = load_faiss()

        missing = [name for name in (META, TABLE, EMBEDDINGS, INDEX) if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"{folder / missing[0]}: no such file; run indexing first")
        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            embeddings = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
            index = faiss.deserialize_index(np.frombuffer((folder / INDEX).read_bytes(), np.uint8))
            clips, dims, model = meta["clips"], meta["dims"], meta["model"]
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"{folder}: damaged ({' '.join(str(error).split())[:200]}); run indexing again") from None
        rows = tables.read_rows(folder / TABLE, CATALOGUE)
        if not (len(rows) == index.ntotal == clips and embeddings.shape == (clips, dims)):
            raise ValueError(
                f"{folder}: {len(rows)} rows, {index.ntotal} in the index, embeddings {embeddings.shape}: "
                "files of different runs; run indexing again"
            )
        if model_digest is not None and model != model_digest:
            raise ValueError(
                f"{folder}: made with model {model[:12]}, not {model_digest[:12]}; run indexing with this model"
            )
        return cls(meta, rows, embeddings, index)

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, query: NDArray[np.float32], k: int) -> list[dict[str, Any]]:
        """Return the k best rows, each with ``score`` (cosine), best first; equal scores by clip id.

        Args:
            query: (E,) unit vector y_vt.
            k: how many; all rows when there are fewer.

        Raises:
            ValueError: k below 1, or a query of the wrong length or with values that are no numbers.
        """
        query = np.asarray(query, dtype=np.float32)
        if k < 1:
            raise ValueError(f"k must be at least 1 (got {k})")
        if query.shape != (self.meta["dims"],) or not np.isfinite(query).all():
            raise ValueError(f"a query is {self.meta['dims']} finite numbers; got shape {query.shape}")
        wanted = min(k, len(self))
        found = self._candidates(query, wanted)
        # Row by row, so that equal vectors get equal scores whatever stands around them.
        scores = (self.embeddings[found] * query).sum(axis=1)
        order = np.lexsort((found, -scores))[:wanted]  # rows are in clip_id order
        return [{**self.rows[found[at]], "score": float(scores[at])} for at in order]

    def _candidates(self, query: NDArray[np.float32], wanted: int) -> NDArray[np.int64]:
        """Return row numbers that hold the best ``wanted`` ones, and all that tie with the last of them."""
        ask = min(len(self), wanted + 16 if self.meta["index"] == "exact" else wanted * self.meta["rerank"])
        while True:
            scores, rows = self._index.search(query[None], ask)
            scores, rows = scores[0], rows[0]
            # Rounding differs between the index and the final score by far less than this.
            settled = scores[-1] < scores[wanted - 1] - 1e-5
            if settled or ask == len(self) or self.meta["index"] != "exact":
                kept: NDArray[np.int64] = np.sort(rows[rows >= 0])
                return kept
            ask = min(len(self), 2 * ask)
