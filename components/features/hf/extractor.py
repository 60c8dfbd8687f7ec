"""The extractor of kind hf: read, batch, embed, put together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.code import code_digest, packages
from components.device import out_of_memory
from components.features.hf.batches import Batches
from components.features.hf.build import build_encoder
from components.features.hf.device import device_and_dtype
from components.features.hf.encoder import Encoder
from components.features.hf.read import read_items
from components.features.params import HfParams, ModelParams
from components.features.source import Source
from components.hub import folder_digest, model_folder, one_line
from components.modalities import MODALITIES, TEXT, Modality

if TYPE_CHECKING:
    import torch

Result = tuple[str, "NDArray[np.float32] | Exception"]


@dataclass(frozen=True)
class Loaded:
    """Where a model runs, in which numbers, and the size of its weights."""

    device: "torch.device"
    dtype: "torch.dtype"
    bytes: int


class Hf:
    """Embeddings of a pre-trained model. The weights are read when the first source comes."""

    def __init__(self, params: HfParams, modality: Modality, folder: Path | None = None) -> None:
        """Find the model, unless it lies in `folder`, and read its config.

        Raises:
            ValueError: it is nowhere, or of another kind.
        """
        self._params = params
        self._modality = modality
        self._which: ModelParams = getattr(params, modality)
        local = folder is None and Path(self._which.model).is_dir()
        self.model = Path(self._which.model).resolve().name if local else self._which.model
        self._folder = folder or model_folder(self._which.model, self._which.revision)
        self.encoder: Encoder = build_encoder(params, modality, self._folder)

    def spec(self) -> dict[str, Any]:
        """See ``Extractor.spec``. The weights are part of it; where a local folder lies is not.

        Device, batch size and threads are not: they may move a number's last digit, and rows that
        are there already are kept nevertheless.
        """
        is_text = self._modality == TEXT
        others = [f"{__package__}.{other}" for other in MODALITIES if other != self._modality]
        return {
            "modality": self._modality,
            "kind": self._params.kind,
            "code": code_digest(Hf, without=others, packages=False),
            "packages": packages(Hf, without=others),
            "model": self.model,
            "revision": self._which.revision,
            "weights": folder_digest(self._folder),
            "dims": self.encoder.dims,
            "max_segments": self.encoder.max_segments,
            "segment_s": None if is_text else self._params.segment_s,
            "dtype": self._params.dtype,
            "preprocessing": self.encoder.preprocessing(),
        }

    def extract(self, sources: Sequence[Source]) -> Iterator[Result]:
        """See ``Extractor.extract``."""
        read = read_items(self.encoder.reader, sources, self._params.workers)
        for clip_id, items, answers in self.batches.answers(read):
            yield clip_id, answers if isinstance(answers, Exception) else self.encoder.rows(answers, items)

    @cached_property
    def batches(self) -> Batches:
        """Batches over the model, which is read when the first item comes."""
        size = max(1, self._params.batch_size // self.encoder.weigh)

        def embed(items: NDArray[Any]) -> NDArray[np.float32]:
            import torch

            device = self.loaded.device
            try:
                with torch.inference_mode():
                    return np.asarray(self.encoder(torch.from_numpy(items).to(device)).float().cpu().numpy())
            except Exception as error:  # the items are as the config asks; what fails here is the model
                if out_of_memory(error):
                    raise ValueError(
                        f"features.batch_size: not enough memory for {self._which.model} with "
                        f"{size * self.encoder.weigh} at once; lower it and run again, finished rows are kept"
                    ) from None
                raise ValueError(f"{self._folder}: its model cannot be used: {one_line(error)}") from None

        return Batches(embed, self.encoder.noise, size)

    @cached_property
    def loaded(self) -> "Loaded":
        """The weights, read now.

        Raises:
            ValueError: the model cannot be used; its folder is named.
        """
        device, dtype = device_and_dtype(self._params)
        return Loaded(device, dtype, self.encoder.load(device, dtype))
