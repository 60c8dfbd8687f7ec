"""What an encoder is: a reader of sources, a model over batches, and how its answers become a clip's rows.

B items in a batch, s rows of a clip, D dims. An item is what the model takes: a frame, a segment's
frames, a segment's sound, a text's tokens.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from components.features.source import Source
from components.hub import load
from components.modalities import Modality

if TYPE_CHECKING:
    import torch


class Reader(Protocol):
    """Turns a source into items; sent to other processes where it decodes media."""

    @property
    def decodes(self) -> bool:
        """Whether reading is worth a process of its own."""
        ...

    def __call__(self, source: Source) -> NDArray[Any]:
        """Return (n, ...) items, all of one shape.

        Raises:
            ValueError: the source cannot be read; a ``reason`` attribute tells why.
        """
        ...


class Encoder(Protocol):
    """A model of one modality. Making one reads its config; the weights are read by ``load``."""

    dims: int
    max_segments: int
    weigh: int
    """Frames in an item; the batch size counts frames."""
    unit: str
    """What an item is, in the plural."""

    @property
    def reader(self) -> Reader:
        """Return what makes items of sources."""
        ...

    def preprocessing(self) -> dict[str, Any]:
        """Return what is done to a source before the model sees it; a part of the spec."""
        ...

    def load(self, device: "torch.device", dtype: "torch.dtype") -> int:
        """Read the weights; return their size in bytes.

        Raises:
            ValueError: they are missing, of another size, or of another kind of model; the folder is named.
        """
        ...

    def __call__(self, items: "torch.Tensor") -> "torch.Tensor":
        """Return (B, D) or (B, T, D) embeddings of a batch on the device."""
        ...

    def noise(self, item: NDArray[Any]) -> NDArray[Any]:
        """Return an item of the same shape that is unlike any other, to try the model on."""
        ...

    def example(self) -> NDArray[Any]:
        """Return (n, ...) items of noise, or of a sentence, as a reader would."""
        ...

    def rows(self, answers: NDArray[np.float32], items: NDArray[Any]) -> NDArray[np.float32]:
        """Return (s, D) features of a clip from the answers to its items."""
        ...


def read_config(folder: Path) -> Any:
    """Return a model's config.

    Raises:
        ValueError: there is none, it is damaged, or the model would need code of its own.
    """
    import transformers

    return load(
        "config",
        folder,
        lambda: transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True),
    )


def unknown_kind(folder: Path, kind: str, modality: Modality, known: tuple[str, ...]) -> ValueError:
    """Return the error of a model that embeds something else."""
    return ValueError(f"{folder}: a model of kind '{kind}' is no {modality} encoder here; known are {', '.join(known)}")
