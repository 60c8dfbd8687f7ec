"""The trimodal model: query embedding y_vt of video and text, music embedding y_m.

Shapes: B samples, S segments, D feature dims, W width, E dims of the towers' embedding, F of the whole one.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.encoder.fusion import Slot, absent_like, build_fusion
from components.encoder.linear import LinearPaths
from components.encoder.losses import Pair, build_loss
from components.encoder.params import CCAPaths, EncoderSection, Term
from components.encoder.towers import Features, Tower
from components.modalities import MODALITIES, MUSIC, QUERY, TEXT, VIDEO, Modality

Arrays = tuple[np.ndarray, np.ndarray]  # the same, as a feature store gives them
Batch = Mapping[Modality, Features]

SINGLE: dict[Modality, Term] = {VIDEO: "video-music", TEXT: "text-music"}


class TrimodalModel(nn.Module):
    """One Transformer per modality, a fusion of video and text; the score is the cosine.

    A missing modality is a missing key; for a single sample it is a mask without a True. Both give
    the same numbers.
    """

    def __init__(self, section: EncoderSection, dims: Mapping[Modality, int]) -> None:
        super().__init__()
        self.section, self.dims = section, {m: int(dims[m]) for m in MODALITIES}
        self.towers = nn.ModuleDict({m: Tower(self.dims[m], section, section.input_noise[m]) for m in MODALITIES})
        self.fusion = build_fusion(section, len(QUERY))
        self.query_head = nn.Linear(section.width, section.embedding_dims)
        self.music_head = nn.Linear(section.width, section.embedding_dims)
        self.loss = build_loss(section.loss)
        match section.linear:
            case CCAPaths(directions=directions, share=share):
                self.linear: LinearPaths | None = LinearPaths(self.dims, directions, share)
            case _:
                self.linear = None

    def forward(self, batch: Batch) -> dict[Term, Pair]:
        """Return the pairs of every term of the objective, of a batch with music and a query modality.

        These are the towers' own embeddings: linear paths are not trained by steps.
        """
        slots, weights = self._slots(batch), self.section.loss.terms
        music, heard = self._heard(batch[MUSIC]), batch[MUSIC][1].any(dim=1)
        there = {m: slot.present for m, slot in zip(QUERY, slots, strict=True)}
        needed = [m for m in QUERY if weights[SINGLE[m]] or weights["video-text"]]
        alone = {m: self._fused([slot if m == of else absent_like(slot) for of, slot in zip(QUERY, slots, strict=True)])
                 for m in needed}  # fmt: skip
        pairs: dict[Term, Pair] = {}
        if weights["fused-music"]:
            pairs["fused-music"] = Pair(self._fused(slots), music, heard & torch.stack([*there.values()]).any(dim=0))
        for modality, term in SINGLE.items():
            if weights[term]:
                pairs[term] = Pair(alone[modality], music, heard & there[modality])
        if weights["video-text"]:
            pairs["video-text"] = Pair(alone[VIDEO], alone[TEXT], there[VIDEO] & there[TEXT])
        return pairs

    def query(self, batch: Batch) -> Tensor:
        """Return y_vt (B, F), unit length, of the query modalities in ``batch``.

        Raises:
            ValueError: the batch holds neither video nor text.
        """
        towers = self._fused(self._slots(batch))
        return towers if self.linear is None else self.linear.beside(towers, batch, music=False)

    def music(self, features: Features) -> Tensor:
        """Return y_m (B, F), unit length."""
        towers = self._heard(features)
        return towers if self.linear is None else self.linear.beside(towers, {MUSIC: features}, music=True)

    @property
    def embedding_dims(self) -> int:
        """Dimensions of a query's and of a track's embedding, F."""
        straight = 0 if self.linear is None else len(QUERY) * self.linear.directions
        return self.section.embedding_dims + straight

    def _heard(self, features: Features) -> Tensor:
        _, pooled = self.towers[MUSIC](*features)
        return F.normalize(self.music_head(pooled).float(), dim=1)

    def _slots(self, batch: Batch) -> list[Slot]:
        given = {m: Slot(*_tower_output(self.towers[m], batch[m])) for m in QUERY if m in batch}
        if not given:
            raise ValueError("a query needs video or text features; got neither")
        some = next(iter(given.values()))
        return [given.get(m) or absent_like(some) for m in QUERY]

    def _fused(self, slots: list[Slot]) -> Tensor:
        return F.normalize(self.query_head(self.fusion(slots)).float(), dim=1)

    def device(self) -> torch.device:
        """Return the device the weights are on."""
        return self.query_head.weight.device

    def embed_query(self, video: Arrays | None = None, text: Arrays | None = None) -> np.ndarray:
        """Return query embeddings (B, F) float32 of feature arrays; either may be None."""
        arrays: dict[Modality, Arrays | None] = {VIDEO: video, TEXT: text}
        given = {m: self._features(m, a) for m, a in arrays.items() if a is not None}
        return self._embed(lambda: self.query(given))

    def embed_music(self, music: Arrays) -> np.ndarray:
        """Return music embeddings (B, F) float32 of feature arrays."""
        return self._embed(lambda: self.music(self._features(MUSIC, music)))

    def _embed(self, compute: Callable[[], Tensor]) -> np.ndarray:
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                return compute().cpu().numpy()
        finally:
            self.train(was_training)

    def _features(self, modality: Modality, arrays: Arrays) -> Features:
        values, mask = arrays
        if values.ndim != 3 or values.shape[2] != self.dims[modality] or mask.shape != values.shape[:2]:
            raise ValueError(
                f"{modality} features have shape {values.shape} with mask {mask.shape}; "
                f"the model expects (clips, segments, {self.dims[modality]}) with mask (clips, segments)"
            )
        on = self.device()
        return torch.as_tensor(values, dtype=torch.float32, device=on), torch.as_tensor(mask, device=on)


def _tower_output(tower: nn.Module, features: Features) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    values, mask = features
    sequence, pooled = tower(values, mask)
    return sequence, mask, pooled, mask.any(dim=1)
