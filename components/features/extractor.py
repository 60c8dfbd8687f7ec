"""The seam between the stage and what makes features: a protocol, and the one place that chooses."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, assert_never

from numpy.typing import NDArray

from components.features.params import EmbeddedParams, FeaturesParams, HfParams
from components.features.source import Source
from components.modalities import Modality


class Extractor(Protocol):
    """Turns sources of one modality into features."""

    def spec(self) -> dict[str, Any]:
        """Return everything that decides the features' bytes, with ``dims`` (D) and ``max_segments`` (S)."""
        ...

    def extract(self, sources: Sequence[Source]) -> Iterator[tuple[str, NDArray[Any] | Exception]]:
        """Yield (clip_id, (s, D) features or what stopped them) of each source, in any order."""
        ...


def build_extractor(params: FeaturesParams, modality: Modality, folder: Path | None = None) -> Extractor:
    """Return the extractor that the section asks for.

    Args:
        params: the section.
        modality: of the features.
        folder: where the files of the model lie that the section names; without it they are looked for, or fetched.

    Raises:
        ValueError: a model that it names cannot be used.
    """
    match params:
        case EmbeddedParams():
            from components.features.embedded import Embedded

            return Embedded(params, modality)
        case HfParams():
            from components.features.hf.extractor import Hf

            return Hf(params, modality, folder)
        case _:
            assert_never(params)
