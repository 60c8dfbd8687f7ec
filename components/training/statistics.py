"""Mean and spread of every input feature over the training clips."""

from collections.abc import Iterable

import torch
from torch import Tensor

from components.encoder.model import Arrays, TrimodalModel
from components.encoder.towers import Tower
from components.modalities import MODALITIES, TEXT, Modality
from components.training.data import Clips, Features

CHUNK = 512  # clips


def standardise_inputs(model: TrimodalModel, features: Features, clips: Clips, human_text: bool) -> None:
    """Set every tower's input statistics from the clips and the texts that training will show."""
    for modality in MODALITIES:
        tower = model.towers[modality]
        assert isinstance(tower, Tower)
        moments = _moments(_arrays(modality, features, clips, human_text))
        if moments is not None:
            tower.standardise.set(*moments)


def _arrays(modality: Modality, features: Features, clips: Clips, human_text: bool) -> Iterable[Arrays]:
    stores = [features.store(modality)]
    if modality == TEXT and human_text:
        stores.append(features.annotations)
    for store in stores:
        ids = [clip for clip in clips.ids if clip in store]
        for start in range(0, len(ids), CHUNK):
            yield store.gather(ids[start : start + CHUNK])


def _moments(chunks: Iterable[Arrays]) -> tuple[Tensor, Tensor] | None:
    """Return mean and standard deviation (D,) over valid segments; None when there is none.

    Sums are kept in float64 around the first chunk's mean, so a large offset costs no digits.
    """
    count, shift, first, second = 0, None, torch.tensor(0.0), torch.tensor(0.0)
    for values, mask in chunks:
        rows = torch.from_numpy(values[mask]).double()  # (valid, D)
        shift = rows.mean(dim=0) if shift is None else shift
        centred = rows - shift
        count, first, second = count + len(rows), first + centred.sum(dim=0), second + centred.square().sum(dim=0)
    if shift is None or count == 0:
        return None
    mean = first / count
    std = (second / count - mean.square()).clamp(min=0).sqrt()
    return (shift + mean).float(), std.float()
