"""One training batch, a function of (section, step) alone, and this process's part of it.

Draws are made for the whole batch and then cut, so that any number of processes sees the same data.

In the order of this file: random draws; features held on a GPU; the batches; what is dropped and mixed; the next
batch made ahead.

Shapes: B samples of the whole batch, P of this process's part, N gathered, C train clips, S segments, D feature dims.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.encoder.losses import Identities
from components.encoder.model import Batch
from components.encoder.towers import Features as Values
from components.encoder.towers import Standardise, mean_of_valid
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.store import FeatureStore
from components.training.data import CHUNK, Clips, Features
from components.training.params import TrainingSection

log = logging.getLogger(__name__)

# -- random draws, addressed by (seed, purpose, step): there is no generator state to save or restore --

Purpose = Literal["weights", "order", "modality", "text", "segments", "mixup", "units"]

_STREAM: Final[dict[Purpose, int]] = {
    "weights": 0,
    "order": 1,
    "modality": 2,
    "text": 3,
    "segments": 4,
    "mixup": 5,
    "units": 6,
}


def draws(seed: int, purpose: Purpose, step: int, place: int = 0) -> np.random.Generator:
    """Return the generator of one purpose at one step (counter-based: Philox).

    ``place`` tells the parts of a step's batch apart: the number of its first sample.
    """
    return np.random.Generator(np.random.Philox(key=[seed, _STREAM[purpose]], counter=[0, 0, place, step]))


def torch_seed(seed: int, purpose: Purpose, step: int, place: int = 0) -> int:
    """Return a seed for torch, from the same address."""
    return int(draws(seed, purpose, step, place).integers(2**63))


def batch_rows(seed: int, step: int, clips: int, batch: int) -> np.ndarray:
    """Return the (batch,) clip rows of a step: every epoch is a new order, its short last batch left out."""
    epoch, place = divmod(step, clips // batch)
    return _order(seed, epoch, clips)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, clips: int) -> np.ndarray:
    order = draws(seed, "order", epoch).permutation(clips)
    order.flags.writeable = False
    return order


# -- features held on a GPU, where there is room: a step then sends row numbers only ---------------

SHARE = 0.25  # of the memory that is free when training starts; the rest is the step's

Resident = dict[Modality, Tensor]


def resident(features: Features, clips: Clips, device: torch.device) -> Resident | None:
    """Return the features of ``clips`` on a GPU; None on a CPU, and where they take more than ``SHARE`` of what is free.

    Video and music have (C, S, D) float16, in the order of ``clips``. Text has (2 C, S, D): what a clip is told
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


def held_rows(at: NDArray[np.int64], human: NDArray[np.bool_], clips: int) -> dict[Modality, NDArray[np.int64]]:
    """Return where the features of clips ``at`` (B,) are held; ``human`` (B,) as in ``Texts.take``."""
    return {VIDEO: at, MUSIC: at, TEXT: np.where(human, at, clips + at)}


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _sent(parts: Iterable[NDArray[np.float16]], device: torch.device) -> Tensor:
    return torch.cat([torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts])


# -- the batches -----------------------------------------------------------------------------------

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
        rows = batch_rows(section.seed, step, len(self._clips), size)  # (B,) of C
        human = draws(section.seed, "text", step).random(size) < section.human_text
        lengths: Lengths = {m: store.segments[self._rows[m][rows]] for m, store in self._stores.items()}
        lengths[TEXT] = self._clips.texts.lengths(rows, human)  # (B,) each
        masks = self._masks(lengths, step)

        share, partners, needed = None, None, np.arange(size)[self._part]
        if section.mixup > 0:
            share, other = mixing(size, section.mixup, draws(section.seed, "mixup", step))
            share, other = share[self._part], other[self._part]
            own = np.full(size, -1)
            own[needed] = np.arange(len(needed))
            strangers = other[own[other] < 0]  # of other processes' parts; partners are all different
            own[strangers] = len(needed) + np.arange(len(strangers))
            needed, partners = np.concatenate([needed, strangers]), own[other]  # (N,) of B, (P,) of N

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
        music, count = batch[MUSIC][0], len(tracks)
        whole = torch.arange(music.shape[1], device=device) < send(parcel.heard)[:, None]  # (N, S), dropped or not
        sound = (mean_of_valid(music[:count], whole[:count]) - like.mean) * like.scale  # (P, D)
    if parcel.partners is not None and parcel.share is not None:
        batch = blend(batch, send(parcel.share), send(parcel.partners))
    return batch, Identities(tracks, artists, sound)


# -- what is dropped and mixed ---------------------------------------------------------------------


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
        both = (shown & mask[partners])[:, :, None]  # (P, S, 1)
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


# -- the next batch, made in a thread while the present one is used --------------------------------

T = TypeVar("T")


def ahead(make: Callable[[int], T], steps: Iterable[int]) -> Iterator[tuple[int, T]]:
    """Yield (step, what ``make`` returns for it) in order; one is made in advance, never more.

    An error of ``make`` is raised where its result would come.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="next-batch") as pool:
        coming = None
        for step in steps:
            then, coming = coming, (step, pool.submit(make, step))
            if then is not None:
                yield then[0], then[1].result()
        if coming is not None:
            yield coming[0], coming[1].result()
