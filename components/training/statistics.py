"""Mean and spread of every input feature over the training clips."""

from collections.abc import Iterable

import torch
from torch import Tensor

from components.encoder.model import TrimodalModel
from components.encoder.standardise import Standardise
from components.encoder.towers import Tower
from components.modalities import MODALITIES, MUSIC, TEXT, Modality
from components.training.data import CHUNK, Clips, Features


def standardise_inputs(model: TrimodalModel, features: Features, clips: Clips, human_text: bool) -> None:
    """Set every tower's input statistics from the clips and the texts that training will show."""
    for modality in MODALITIES:
        tower = model.towers[modality]
        assert isinstance(tower, Tower)
        moments = _moments(_arrays(modality, features, clips, human_text))
        if moments is not None:
            tower.standardise.set(*moments)


def standardisation(model: TrimodalModel) -> Standardise:
    """Return what standardises the music's features."""
    tower = model.towers[MUSIC]
    assert isinstance(tower, Tower)
    return tower.standardise


def _arrays(modality: Modality, features: Features, clips: Clips, human_text: bool) -> Iterable[Tensor]:
    """Yield the valid segments (rows, D) of the clips; those with NaN or infinity are not counted."""
    stores = [features.store(modality)]
    if modality == TEXT and human_text:
        stores.append(features.annotations)
    for store in stores:
        ids = [clip for clip in clips.ids if clip in store]
        for start in range(0, len(ids), CHUNK):
            values, mask = store.take(store.rows_of(ids[start : start + CHUNK]))
            rows = torch.from_numpy(values[mask]).double()
            yield rows[rows.isfinite().all(dim=1)]


def _moments(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return mean and standard deviation (D,) over rows; None when there is none.

    Sums are kept in float64 around the first chunk's mean, so a large offset costs no digits.
    """
    count, shift, first, second = 0, None, torch.tensor(0.0), torch.tensor(0.0)
    for rows in chunks:
        if not len(rows):
            continue
        shift = rows.mean(dim=0) if shift is None else shift
        centred = rows - shift
        count, first, second = count + len(rows), first + centred.sum(dim=0), second + centred.square().sum(dim=0)
    if shift is None or count == 0:
        return None
    mean = first / count
    std = (second / count - mean.square()).clamp(min=0).sqrt()
    return (shift + mean).float(), std.float()
