"""Features of the train clips in the GPU's memory, where there is room: a step then sends row numbers only.

Shapes: N train clips, S segments, D feature dims.
"""

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.store import FeatureStore
from components.training.data import CHUNK, Clips, Features

SHARE = 0.25  # of the memory that is free when training starts; the rest is the step's

Resident = dict[Modality, Tensor]

log = logging.getLogger(__name__)


def resident(features: Features, clips: Clips, device: torch.device) -> Resident | None:
    """Return the features of ``clips`` on a GPU; None on a CPU, and where they take more than ``SHARE`` of what is free.

    Video and music have (N, S, D) float16, in the order of ``clips``. Text has (2 N, S, D): what a clip is told
    where an annotation goes before the caption, then what it is told where it does not.
    """
    if device.type != "cuda":
        return None
    count, half = len(clips), 2  # bytes of a number
    specs = {VIDEO: features.video.spec, MUSIC: features.music.spec, TEXT: features.captions.spec}
    shapes = {m: ((2 if m == TEXT else 1) * count, spec["max_segments"], spec["dims"]) for m, spec in specs.items()}
    needed, (free, _) = half * sum(int(np.prod(shape)) for shape in shapes.values()), torch.cuda.mem_get_info(device)
    if needed > SHARE * free:
        log.info(
            "training: features of %d clips (%.1f GiB) stay on disk, %.1f GiB are free on the GPU",
            count, needed / 2**30, free / 2**30,
        )  # fmt: skip
        return None
    return gathered(features, clips, device)


def gathered(features: Features, clips: Clips, device: torch.device) -> Resident:
    """Return what ``resident`` does, on any device."""
    held: Resident = {}
    stores: dict[Modality, FeatureStore] = {VIDEO: features.video, MUSIC: features.music}
    for modality, store in stores.items():
        own = store.rows_of(clips.ids)
        held[modality] = _sent((store.take(own[part])[0] for part in _parts(len(clips))), device)
    at = np.arange(len(clips))
    asked = ((at[part], np.full(len(at[part]), human)) for human in (True, False) for part in _parts(len(clips)))
    return {**held, TEXT: _sent((clips.texts.take(*one) for one in asked), device)}


def rows(at: NDArray[np.int64], human: NDArray[np.bool_], clips: int) -> dict[Modality, NDArray[np.int64]]:
    """Return where the features of clips ``at`` (B,) are held; ``human`` (B,) as in ``Texts.take``."""
    return {VIDEO: at, MUSIC: at, TEXT: np.where(human, at, clips + at)}


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _sent(parts: Iterable[NDArray[np.float16]], device: torch.device) -> Tensor:
    return torch.cat([torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts])
