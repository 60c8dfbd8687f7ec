"""The embedded extractors: formulas of this folder, run in several processes."""

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from components.code import code_digest, packages
from components.features.parallel import spread
from components.features.params import EmbeddedParams
from components.features.source import Source
from components.modalities import MODALITIES, Modality

Result = tuple[str, "NDArray[np.float32] | Exception"]


class Embedded:
    """Colour, shape and motion; timbre, harmony and rhythm; words and characters."""

    def __init__(self, params: EmbeddedParams, modality: Modality) -> None:
        """Keep what the processes need; nothing is computed yet."""
        self._params = params
        self._modality = modality

    def spec(self) -> dict[str, Any]:
        """See ``Extractor.spec``."""
        params = self._params
        is_text = self._modality == "text"
        row = _extract_chunk  # how sources are spread over processes changes no feature
        others = [f"{__package__}.{other}" for other in MODALITIES if other != self._modality]
        return {
            "modality": self._modality,
            "kind": params.kind,
            "code": code_digest(row, without=others, packages=False),
            "packages": packages(row, without=others),
            "dims": _dims(params, self._modality),
            "max_segments": 1 if is_text else params.max_segments,
            "segment_s": None if is_text else params.segment_s,
            "params": getattr(params, self._modality).model_dump(),
        }

    def extract(self, sources: Sequence[Source]) -> Iterator[Result]:
        """See ``Extractor.extract``."""
        # Text is cheap: starting a process costs more than thousands of sentences.
        workers = 1 if self._modality == "text" else self._params.workers
        yield from spread(_extract_chunk, sources, (self._params, self._modality), workers)


def _extract_chunk(sources: Sequence[Source], params: EmbeddedParams, modality: Modality) -> list[Result]:
    """Return the result of each source; one bad file must not stop the others."""
    results: list[Result] = []
    for source in sources:
        try:
            results.append((source.clip_id, _describe(source, params, modality)))
        except (ValueError, OSError) as error:
            results.append((source.clip_id, error))
    return results


def _dims(params: EmbeddedParams, modality: Modality) -> int:
    match modality:
        case "music":
            from components.features.music import music_dims

            return music_dims(params.music)
        case "video":
            from components.features.video import VIDEO_DIMS

            return VIDEO_DIMS
        case "text":
            return params.text.dims
        case _:
            assert_never(modality)


def _describe(source: Source, params: EmbeddedParams, modality: Modality) -> NDArray[np.float32]:
    match modality:
        case "music":
            from components.features.music import music_features

            return music_features(source, params.music, params.segment_s, params.max_segments)
        case "video":
            from components.features.video import video_features

            return video_features(source, params.video, params.segment_s, params.max_segments)
        case "text":
            from components.features.text import text_features

            return text_features(source, params.text)
        case _:
            assert_never(modality)
