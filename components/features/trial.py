"""Try the section's encoders on noise: what they give, how fast, and how much memory they take."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from components.features.params import EmbeddedParams, FeaturesParams, HfParams
from components.features.source import Source
from components.modalities import Modality

_SENTENCE = "Warm acoustic folk with a hopeful mood and no vocals."
_LEAST_S = 0.5  # of work that a rate is taken from
_MIB = 2**20


@dataclass(frozen=True)
class Trial:
    """What one encoder showed."""

    modality: Modality
    model: str
    dims: int
    rate: float
    """Units per second, without what it takes to decode them."""
    unit: str
    memory_mib: float
    """The weights, or the growth of this process by them and one batch if that is more; on a GPU the peak there."""
    device: str
    dtype: str


def try_encoder(params: FeaturesParams, modality: Modality) -> Trial:
    """Load the encoder of one modality and embed noise, or a sentence, with it.

    Raises:
        ValueError: it cannot be loaded, or noise does not become finite numbers that differ.
    """
    match params:
        case EmbeddedParams():
            return _try_formulas(params, modality)
        case HfParams():
            return _try_model(params, modality)
        case _:
            assert_never(params)


def _try_model(params: HfParams, modality: Modality) -> Trial:
    from components.features.hf.extractor import Hf

    before = _resident()
    extractor = Hf(params, modality)
    encoder, batches = extractor.encoder, extractor.batches
    items = encoder.example()
    copies = max(1, params.batch_size // (encoder.weigh * len(items)))

    def embed() -> NDArray[np.float32]:
        ((_, _, answers),) = batches.answers([("noise", np.concatenate([items] * copies))])
        assert not isinstance(answers, Exception)
        return encoder.rows(answers[: len(items)], items)

    name = getattr(params, modality).model
    _require_usable(embed(), name)
    loaded = extractor.loaded
    memory = max(loaded.bytes, _resident() - before)
    if loaded.device.type == "cuda":
        import torch

        memory = torch.cuda.max_memory_allocated()
    rate = _per_second(embed) * copies * len(items)
    dtype = str(loaded.dtype).removeprefix("torch.")
    return Trial(modality, name, encoder.dims, rate, encoder.unit, memory / _MIB, str(loaded.device), dtype)


def _try_formulas(params: EmbeddedParams, modality: Modality) -> Trial:
    before = _resident()
    rng = np.random.default_rng(0)

    def embed() -> NDArray[np.float32]:
        match modality:
            case "music":
                from components.features.music import describe_sound

                samples = rng.uniform(-0.5, 0.5, round(params.segment_s * params.music.sample_rate_hz))
                return describe_sound(samples.astype(np.float32), [0.0], params.segment_s, params.music)
            case "video":
                from components.features.video import describe_pictures

                times = np.arange(max(1, round(params.segment_s * params.video.motion_fps))) / params.video.motion_fps
                frames = rng.integers(0, 256, (len(times), params.video.height, params.video.width, 3), np.uint8)
                return describe_pictures(frames, times, [0.0], params.segment_s, params.video)
            case "text":
                from components.features.text import text_features

                return text_features(Source("example", "", text=_SENTENCE), params.text)
            case _:
                assert_never(modality)

    found = embed()
    _require_usable(found, "embedded")
    memory = max(0, _resident() - before)
    unit = "texts" if modality == "text" else "segments"
    return Trial(modality, "embedded", found.shape[1], _per_second(embed), unit, memory / _MIB, "cpu", "float32")


def _require_usable(features: NDArray[np.float32], name: str) -> None:
    if not np.isfinite(features).all() or not np.ptp(features) > 0:
        raise ValueError(f"{name}: noise does not become finite numbers that differ; the weights are damaged")


def _per_second(embed: Callable[[], object]) -> float:
    """Return how often ``embed`` runs in a second, the fastest of what fits half a second."""
    spent: list[float] = []
    while not spent or sum(spent) < _LEAST_S:
        start = time.perf_counter()
        embed()
        spent.append(time.perf_counter() - start)
    return 1 / min(spent)


def _resident() -> int:
    import psutil  # type: ignore[import-untyped]

    return int(psutil.Process().memory_info().rss)
