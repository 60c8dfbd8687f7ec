"""FAISS, imported when it is needed and without its remarks about which build it found."""

import logging
from typing import Any


def load_faiss() -> Any:
    """Return the faiss module."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss
