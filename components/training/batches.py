"""One training batch, a function of (section, step) alone."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.encoder.model import Arrays, Batch
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.training.data import Clips, Features, Texts
from components.training.draws import batch_rows, draws
from components.training.params import TrainingSection


def make_batch(
    features: Features, clips: Clips, section: TrainingSection, batch: int, step: int, device: torch.device
) -> tuple[Batch, Tensor]:
    """Return the features of a step, dropout of modalities and segments done, and its tracks (B,)."""
    rows = batch_rows(section.seed, step, len(clips), batch)
    ids = [clips.ids[row] for row in rows]
    human = draws(section.seed, "text", step).random(batch) < section.human_text
    (video, seen), (music, heard) = _trim(features.video.gather(ids)), _trim(features.music.gather(ids))
    text, read = Texts(features.captions, features.annotations).gather(ids, human)
    chance = draws(section.seed, "segments", step)
    seen, heard = (drop_segments(mask, section.segment_dropout, chance) for mask in (seen, heard))
    seen, read = drop_modalities(seen, read, section, draws(section.seed, "modality", step).random(batch))

    arrays: dict[Modality, Arrays] = {VIDEO: (video, seen), TEXT: (text, read), MUSIC: (music, heard)}
    if section.mixup > 0:
        arrays = blend(arrays, section.mixup, draws(section.seed, "mixup", step))

    def put(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return {m: (put(values), put(mask)) for m, (values, mask) in arrays.items()}, put(clips.tracks[rows])


def blend(arrays: dict[Modality, Arrays], concentration: float, chance: np.random.Generator) -> dict[Modality, Arrays]:
    """Mix each sample with another of the batch by one share for all its modalities (mixup, ICLR 2018).

    A blend of two clips' videos belongs to the same blend of their music. The share is at least a
    half, so the sample keeps its identity; where the other has no such segment it stays as it is.

    Args:
        arrays: features (B, S, D) and masks (B, S) per modality.
        concentration: both parameters of the Beta distribution of the share.
        chance: the draws.
    """
    batch = len(arrays[MUSIC][1])
    drawn = chance.beta(concentration, concentration, batch)
    share = np.maximum(drawn, 1.0 - drawn).astype(np.float32)[:, None, None]
    other = chance.permutation(batch)
    blended: dict[Modality, Arrays] = {}
    for modality, (values, mask) in arrays.items():
        both = (mask & mask[other])[:, :, None]
        blended[modality] = (np.where(both, share * values + (1 - share) * values[other], values), mask)
    return blended


def _trim(arrays: Arrays) -> Arrays:
    """Cut the segments that no sample of the batch has: a store is as long as its longest clip."""
    values, mask = arrays
    longest = int(mask.sum(axis=1).max())
    return values[:, :longest], mask[:, :longest]


def drop_segments(mask: NDArray[np.bool_], probability: float, chance: np.random.Generator) -> NDArray[np.bool_]:
    """Return the mask (B, S) with valid segments dropped at random; each sample keeps at least one."""
    score = np.where(mask, chance.random(mask.shape), -1.0)
    kept: NDArray[np.bool_] = (score >= probability) | (mask & (score == score.max(axis=1, keepdims=True)))
    return kept


def drop_modalities(
    seen: NDArray[np.bool_], read: NDArray[np.bool_], section: TrainingSection, chance: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Drop the text of some samples and the video of others, never both of one sample.

    Args:
        seen: (B, S) mask of video.
        read: (B, S) mask of text; a sample without text keeps its video.
        section: the two probabilities.
        chance: (B,) uniform draws.
    """
    no_text = chance < section.text_dropout
    no_video = (chance >= 1.0 - section.video_dropout) & ~no_text & read.any(axis=1)
    return seen & ~no_video[:, None], read & ~no_text[:, None]
