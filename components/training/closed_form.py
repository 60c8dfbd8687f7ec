"""What is fitted in closed form on the train clips, before the first step: input statistics and linear paths.

Shapes: N clips, S segments, D feature dims.
"""

import logging
from collections.abc import Iterable
from itertools import product
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.encoder.cca import CCA, Rows, fit_axes, shared, solve
from components.encoder.embed import Gathers
from components.encoder.linear import LinearPaths
from components.encoder.model import Arrays, TrimodalModel
from components.encoder.ranking import ranks
from components.encoder.towers import Tower
from components.modalities import MODALITIES, TEXT, VIDEO, Modality
from components.store import segment_mean
from components.training.data import CHUNK, Clips, Features
from components.training.params import TrainingSection

log = logging.getLogger(__name__)

# -- mean and spread of every input feature --------------------------------------------------------


def standardise_inputs(model: TrimodalModel, features: Features, clips: Clips, human_text: bool) -> None:
    """Set every tower's input statistics from the clips and the texts that training will show."""
    for modality in MODALITIES:
        tower = model.towers[modality]
        assert isinstance(tower, Tower)
        moments = _moments(_arrays(modality, features, clips, human_text))
        if moments is not None:
            tower.standardise.set(*moments)


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


# -- linear paths ----------------------------------------------------------------------------------

# Ridges of the query side and of music, in variances of one standardised feature; power of the correlations.
STRENGTHS: Final = tuple(product((0.3, 1.0, 3.0, 10.0, 30.0), (0.03, 0.1, 1.0, 10.0), (1.0, 2.0)))


def fit_linear_paths(
    paths: LinearPaths, features: Features, train: Clips, val: Clips, section: TrainingSection
) -> None:
    """Set the directions of every query modality that training shows, as strong as suits the val clips best.

    A modality that is dropped from every sample, or that fewer than two train and two val clips have,
    is left out: queries of it are answered by the towers alone.
    """
    shown: dict[Modality, list[Arrays]] = {}
    if section.text_dropout < 1:
        shown[TEXT] = _texts(train, section.human_text)
    if section.video_dropout < 1:
        shown[VIDEO] = [features.video.gather(train.ids)]
    sources: dict[Modality, Gathers] = {VIDEO: features.video, TEXT: val.texts}
    music, val_music = segment_mean(*features.music.gather(train.ids)), segment_mean(*features.music.gather(val.ids))
    for modality, texts in sorted(shown.items()):
        rows = [np.flatnonzero(mask.any(axis=1)) for _, mask in texts]
        query = np.concatenate([segment_mean(*arrays)[at] for arrays, at in zip(texts, rows, strict=True)])
        asked = sources[modality].gather(val.ids)
        judged = np.flatnonzero(asked[1].any(axis=1))
        if min(len(query), len(judged)) < 2:
            log.info("training: no linear path of %s, too few clips have it", modality)
            continue
        same = val.tracks[judged][:, None] == val.tracks[judged][None, :]
        heard = np.concatenate([music[at] for at in rows])
        known = (segment_mean(*asked)[judged], val_music[judged])
        fitted, power = fit_strongest(query, heard, *known, same, paths.directions)
        paths.set(modality, fitted, power)


def fit_strongest(
    query: Rows, music: Rows, val_query: Rows, val_music: Rows, same_track: NDArray[np.bool_], directions: int
) -> tuple[CCA, float]:
    """Return the CCA of pairs (N, D) and the power whose mean log rank on the val pairs is least; ties: the first."""
    left, right = fit_axes(query), fit_axes(music)
    covariance = shared(left, right, query, music)
    tried: dict[tuple[float, float], CCA] = {}
    found = []
    for query_ridge, music_ridge, power in STRENGTHS:
        ridges = (query_ridge, music_ridge)
        if ridges not in tried:
            tried[ridges] = solve(left, right, covariance, *ridges, directions)
        found.append(float(np.log(ranks(tried[ridges].scores(val_query, val_music, power), same_track)).mean()))
    *best, power = STRENGTHS[int(np.argmin(found))]
    return tried[best[0], best[1]], power


def _texts(train: Clips, human_text: float) -> list[Arrays]:
    """Return the texts that training may show of each clip: annotations first, captions, or both in turn."""
    at = np.arange(len(train))
    found = []
    for human, chance in ((True, human_text), (False, 1 - human_text)):
        if chance > 0:
            told = np.full(len(train), human)
            mask = np.arange(train.texts.segments) < train.texts.lengths(at, told)[:, None]
            found.append((train.texts.take(at, told).astype(np.float32), mask))
    return found
