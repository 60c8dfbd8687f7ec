"""The FAISS index over the catalogue's embeddings."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.indexing.params import IndexingSection


def load_faiss() -> Any:
    """Return the faiss module, imported when it is needed and without its remarks about which build it found."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss


def build_index(embeddings: NDArray[np.float32], section: IndexingSection) -> Any:
    """Return an inner-product index over unit vectors (N, E): exact when small, else IVF-SQ8.

    Eight-bit codes in inverted lists are for finding candidates; ``search`` scores those again in
    float32, so stored scores are never approximate.
    """
    faiss = load_faiss()

    rows, dims = embeddings.shape
    if rows < section.exact_below:
        index: Any = faiss.IndexFlatIP(dims)
    else:
        lists = max(1, rows // section.clips_per_list)
        quantiser: Any = faiss.IndexFlatIP(dims)
        index = faiss.IndexIVFScalarQuantizer(
            quantiser, dims, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        quantiser.this.disown()
        index.own_fields = True
        index.cp.seed = section.seed
        index.nprobe = min(section.probes, lists)
        # One thread: sums over a cluster come out the same every time.
        faiss.omp_set_num_threads(1)
        index.train(embeddings)
    index.add(embeddings)
    return index
