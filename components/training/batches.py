"""One training batch, a function of (section, step) alone, and this process's part of it.

Draws are made for the whole batch and then cut, so that any number of processes sees the same data.
Shapes: B samples of the whole batch, P of this process's part, N gathered, S segments, D feature dims.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.encoder.model import Batch
from components.encoder.model import Features as Values
from components.encoder.pairs import Identities
from components.encoder.standardise import Standardise
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.store import FeatureStore
from components.training.data import Clips, Features
from components.training.draws import batch_rows, draws
from components.training.params import TrainingSection
from components.training.resident import Resident
from components.training.resident import rows as held_rows

Masks = dict[Modality, NDArray[np.bool_]]
Lengths = dict[Modality, NDArray[np.int64]]
Halves = dict[Modality, NDArray[np.float16]]


@dataclass(frozen=True)
class Parcel:
    """A part of a batch in the host's memory, as the feature stores hold it.

    Attributes:
        values: (N, S, D) float16 per modality: this part's samples first, then partners of the mixing. Where
            features are held, (N,) their rows there.
        masks: (N, S) True where a segment is shown.
        heard: (N,) valid segments of the music, shown or not.
        tracks: (P,) as in ``Clips``.
        artists: (P,) as in ``Clips``.
        partners: (P,) which of N each sample is mixed with; None without mixing.
        share: (P, 1, 1) the sample's own share in the mix.
        held: the features on the device, if ``values`` are rows of them.
    """

    values: dict[Modality, Tensor]
    masks: dict[Modality, Tensor]
    heard: Tensor
    tracks: Tensor
    artists: Tensor
    partners: Tensor | None
    share: Tensor | None
    held: Resident | None


class Batches:
    """The batches of a run, cut to one process's part.

    Args:
        features: the stores.
        clips: the train clips.
        section: of params.yaml.
        batch: samples of the whole batch.
        part: which of them are this process's.
        on_gpu: put parcels into memory that a GPU reads by itself, and give all batches the shape of the longest
            clip: compiled code is made for shapes.
        held: the features, if they are resident there.
    """

    def __init__(
        self, features: Features, clips: Clips, section: TrainingSection, batch: int, part: slice,
        on_gpu: bool = False, held: Resident | None = None,
    ) -> None:  # fmt: skip
        self._clips, self._section, self._held = clips, section, held
        self._batch, self._part, self._pinned = batch, part, on_gpu
        self._stores: dict[Modality, FeatureStore] = {VIDEO: features.video, MUSIC: features.music}
        self._rows = {m: store.rows_of(clips.ids) for m, store in self._stores.items()}
        longest = {m: int(store.spec["max_segments"]) for m, store in self._stores.items()}
        self._longest: dict[Modality, int] | None = {**longest, TEXT: clips.texts.segments} if on_gpu else None

    def parcel(self, step: int) -> Parcel:
        """Return the part of a step's batch: chosen, dropped, gathered; nothing computed on values."""
        section, size = self._section, self._batch
        rows = batch_rows(section.seed, step, len(self._clips), size)
        human = draws(section.seed, "text", step).random(size) < section.human_text
        lengths: Lengths = {m: store.segments[self._rows[m][rows]] for m, store in self._stores.items()}
        lengths[TEXT] = self._clips.texts.lengths(rows, human)
        masks = self._masks(lengths, step)

        share, partners, needed = None, None, np.arange(size)[self._part]
        if section.mixup > 0:
            share, other = mixing(size, section.mixup, draws(section.seed, "mixup", step))
            share, other = share[self._part], other[self._part]
            own = np.full(size, -1)
            own[needed] = np.arange(len(needed))
            strangers = other[own[other] < 0]  # of other processes' parts; partners are all different
            own[strangers] = len(needed) + np.arange(len(strangers))
            needed, partners = np.concatenate([needed, strangers]), own[other]

        mine = rows[self._part]
        return Parcel(
            self._values(rows[needed], human[needed], masks),
            {m: self._tensor(mask[needed]) for m, mask in masks.items()},
            self._tensor(lengths[MUSIC][needed]),
            self._tensor(self._clips.tracks[mine]),
            self._tensor(self._clips.artists[mine]),
            None if partners is None else self._tensor(partners),
            None if share is None else self._tensor(share[:, None, None]),
            self._held,
        )

    def _values(self, at: NDArray[np.int64], human: NDArray[np.bool_], masks: Masks) -> dict[Modality, Tensor]:
        if self._held is not None:
            return {m: self._tensor(places) for m, places in held_rows(at, human, len(self._clips)).items()}
        values: Halves = {m: store.take(self._rows[m][at])[0] for m, store in self._stores.items()}
        values[TEXT] = self._clips.texts.take(at, human)
        return {m: self._tensor(array[:, : masks[m].shape[1]]) for m, array in values.items()}

    def _masks(self, lengths: Lengths, step: int) -> Masks:
        """Return what is shown of each sample, (B, S): S is the batch's longest, on a GPU the store's."""
        section = self._section
        longest = self._longest or {m: max(1, n.max()) for m, n in lengths.items()}
        masks: Masks = {m: np.arange(longest[m]) < n[:, None] for m, n in lengths.items()}
        chance = draws(section.seed, "segments", step)
        for modality in (VIDEO, MUSIC):
            masks[modality] = drop_segments(masks[modality], section.segment_dropout, chance)
        chosen = draws(section.seed, "modality", step).random(self._batch)
        masks[VIDEO], masks[TEXT] = drop_modalities(masks[VIDEO], masks[TEXT], section, chosen)
        return masks

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory() if self._pinned else tensor


def on_device(parcel: Parcel, device: torch.device, like: Standardise | None = None) -> tuple[Batch, Identities]:
    """Return features and identities on the device: sent or found there as float16, widened and mixed there.

    Args:
        parcel: the part of a batch.
        device: where to.
        like: the standardisation of music, where the objective asks how alike samples sound.
    """

    def send(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    def values(modality: Modality, sent: Tensor) -> Tensor:
        if parcel.held is None:
            return sent.float()
        return parcel.held[modality][:, : parcel.masks[modality].shape[1]].index_select(0, sent).float()

    batch: dict[Modality, Values] = {m: (values(m, send(v)), send(parcel.masks[m])) for m, v in parcel.values.items()}
    tracks, artists = send(parcel.tracks), send(parcel.artists)
    sound = None
    if like is not None:
        count = len(tracks)
        whole = batch[MUSIC][0][:count].sum(dim=1) / send(parcel.heard)[:count, None]  # padding is zero in a store
        sound = (whole - like.mean) * like.scale
    if parcel.partners is not None and parcel.share is not None:
        batch = blend(batch, send(parcel.share), send(parcel.partners))
    return batch, Identities(tracks, artists, sound)


def mixing(
    batch: int, concentration: float, chance: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return each sample's own share (B,), at least a half, and its partner (B,), a permutation.

    Args:
        batch: B.
        concentration: both parameters of the Beta distribution of the share.
        chance: the draws.
    """
    drawn = chance.beta(concentration, concentration, batch)
    return np.maximum(drawn, 1.0 - drawn).astype(np.float32), chance.permutation(batch)


def blend(batch: Batch, share: Tensor, partners: Tensor) -> dict[Modality, Values]:
    """Mix each sample with its partner by one share for all its modalities (mixup, ICLR 2018).

    A blend of two clips' videos belongs to the same blend of their music. The share is at least a
    half, so the sample keeps its identity; where the partner has no such segment it stays as it is.

    Args:
        batch: features (N, S, D) and masks (N, S) per modality.
        share: (P, 1, 1).
        partners: (P,) into N.
    """
    count = len(partners)
    blended: dict[Modality, Values] = {}
    for modality, (values, mask) in batch.items():
        own, shown = values[:count], mask[:count]
        both = (shown & mask[partners])[:, :, None]
        blended[modality] = (torch.where(both, share * own + (1 - share) * values[partners], own), shown)
    return blended


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
