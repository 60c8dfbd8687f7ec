"""Encoders of pictures: CLIP, SigLIP and SigLIP 2 per frame, PE-AV per segment.

B frames or segments, F frames of a segment, h x w pixels, D dims.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.features.hf.device import bytes_of
from components.features.hf.encoder import Encoder, read_config, unknown_kind
from components.features.hf.frames import FrameReader, frames_per_segment
from components.features.hf.perception import load_perception, sub_config
from components.features.hf.pixels import read_pixels
from components.features.params import HfParams
from components.hub import load_model

if TYPE_CHECKING:
    import torch

_CLIP = ("clip", "clip_vision_model")
_SIGLIP = ("siglip", "siglip_vision_model")
_SIGLIP2 = ("siglip2", "siglip2_vision_model")
_PERCEPTION = ("pe_video", "pe_audio_video")
_WIDE = 640, 360


def video_encoder(params: HfParams, folder: Path) -> Encoder:
    """Return the encoder of the pictures' model in ``folder``.

    Raises:
        ValueError: it is none, or no file tells how pictures are prepared.
    """
    config = read_config(folder)
    kind = str(config.model_type)
    if kind not in (known := (*_CLIP, *_SIGLIP, *_SIGLIP2, *_PERCEPTION)):
        raise unknown_kind(folder, kind, "video", known)
    return Pictures(params, folder, config, kind)


class Pictures:
    """See ``Encoder``. A segment's features are the mean over its frames, or one embedding of them all."""

    def __init__(self, params: HfParams, folder: Path, config: Any, kind: str) -> None:
        """Read how pictures are prepared; the weights come later."""
        self._folder, self._kind = folder, kind
        self._tower = getattr(config, "vision_config", None) or config
        self._moving = kind in _PERCEPTION
        self._frames = frames_per_segment(params.segment_s, params.video.frames_per_s)
        self._pixels = read_pixels(folder)
        self.max_segments = params.max_segments
        self.weigh = self._frames if self._moving else 1
        self.unit = "segments" if self._moving else "frames"
        if self._moving:
            self._config = sub_config(config, "video")
            self.dims = int(self._config.text_config.hidden_size)
        else:
            self.dims = int(self._tower.projection_dim if kind in _CLIP else self._tower.hidden_size)
        self.reader = FrameReader(params.segment_s, params.max_segments, self._frames, self._pixels, self._moving)

    def preprocessing(self) -> dict[str, Any]:
        """See ``Encoder.preprocessing``."""
        return {"frames": self._frames, "fit": self._pixels.fit}

    def load(self, device: "torch.device", dtype: "torch.dtype") -> int:
        """See ``Encoder.load``."""
        import torch
        import transformers

        if self._moving:
            model = load_perception("video", self._folder, self._config)
        else:
            kinds = {
                _CLIP: transformers.CLIPVisionModelWithProjection,
                _SIGLIP: transformers.SiglipVisionModel,
                _SIGLIP2: transformers.Siglip2VisionModel,
            }
            model = load_model(next(kinds[names] for names in kinds if self._kind in names), self._folder)
        self._model = model.to(device, dtype)
        self._dtype = dtype
        deviation = torch.tensor(self._pixels.deviation, device=device)
        self._factor = self._pixels.scale / deviation
        self._offset = torch.tensor(self._pixels.mean, device=device) / deviation
        return bytes_of(self._model)

    def __call__(self, items: "torch.Tensor") -> "torch.Tensor":
        """See ``Encoder.__call__``: (B, h, w, 3) or (B, F, h, w, 3) bytes to (B, D)."""
        pictures = items.float() * self._factor - self._offset
        if self._kind in _SIGLIP2:
            return self._patched(pictures)
        pictures = pictures.movedim(-1, -3).contiguous().to(self._dtype)
        found: torch.Tensor
        if self._moving:
            found = self._model.video_head(self._model.video_encoder(pictures).pooler_output)
        elif self._kind in _CLIP:
            found = self._model(pixel_values=pictures).image_embeds
        else:
            found = self._model(pixel_values=pictures).pooler_output
        return found

    def noise(self, item: NDArray[Any]) -> NDArray[Any]:
        """See ``Encoder.noise``."""
        return np.random.default_rng(0).integers(0, 256, item.shape, np.uint8)

    def example(self) -> NDArray[Any]:
        """See ``Encoder.example``: a segment of a wide picture."""
        width, height = self._pixels.decoded(*_WIDE)
        frames = np.zeros((self._frames, height, width, 3), np.uint8)[(slice(None), *self._pixels.kept(width, height))]
        return self.noise(frames[None] if self._moving else frames)

    def rows(self, answers: NDArray[np.float32], items: NDArray[Any]) -> NDArray[np.float32]:
        """See ``Encoder.rows``."""
        if self._moving:
            return answers
        return np.asarray(answers.reshape(-1, self._frames, self.dims).mean(axis=1))

    def _patched(self, pictures: "torch.Tensor") -> "torch.Tensor":
        """Embed (B, h, w, 3) pictures cut into patches, as SigLIP 2 takes them in any shape."""
        import torch

        side, count = self._pixels.patch, len(pictures)
        down, across = pictures.shape[1] // side, pictures.shape[2] // side
        cut = pictures.view(count, down, side, across, side, 3).transpose(2, 3).reshape(count, down * across, -1)
        patches = cut.new_zeros(count, self._pixels.patches, cut.shape[2])
        patches[:, : down * across] = cut
        mask = torch.zeros(count, self._pixels.patches, dtype=torch.int32, device=cut.device)
        mask[:, : down * across] = 1
        shapes = torch.tensor([[down, across]] * count, device=cut.device)
        found: torch.Tensor = self._model(
            pixel_values=patches.to(self._dtype), pixel_attention_mask=mask, spatial_shapes=shapes
        ).pooler_output
        return found
