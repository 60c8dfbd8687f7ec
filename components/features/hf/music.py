"""Encoders of sound: CLAP, AST, PE-AV, and those like wav2vec 2.0.

B segments, N samples, T states over time, L layers, D dims.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.features.hf.device import bytes_of
from components.features.hf.encoder import Encoder, read_config, unknown_kind
from components.features.hf.perception import load_perception, sub_config
from components.features.hf.sounds import SoundReader
from components.features.params import HfParams
from components.hub import load_model, load_part

if TYPE_CHECKING:
    import torch

_CLAP = ("clap", "clap_audio_model")
_AST = ("audio-spectrogram-transformer",)
_PERCEPTION = ("pe_audio", "pe_audio_video")
_WAVES = (
    "wav2vec2", "wav2vec2-conformer", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat", "sew", "sew-d",
)  # fmt: skip
_AST_MARKS = 2  # states of AST that stand for no time: class and distillation


def music_encoder(params: HfParams, folder: Path) -> Encoder:
    """Return the encoder of the sound model in ``folder``.

    Raises:
        ValueError: it is none; or a segment is longer than it hears, or it has no such pooling: the key is named.
    """
    import transformers

    config = read_config(folder)
    kind = str(config.model_type)
    if kind not in (known := (*_CLAP, *_AST, *_PERCEPTION, *_WAVES)):
        raise unknown_kind(folder, kind, "music", known)
    return Sounds(params, folder, config, kind, load_part(transformers.AutoFeatureExtractor, folder))


class Sounds:
    """See ``Encoder``. A segment has one embedding."""

    weigh = 1
    unit = "segments"

    def __init__(self, params: HfParams, folder: Path, config: Any, kind: str, extractor: Any) -> None:
        """Check that the model hears a whole segment; the weights come later."""
        self._folder, self._kind, self._extractor = folder, kind, extractor
        self._pooling = params.music.pooling
        self.max_segments = params.max_segments
        self._rate_hz = int(extractor.sampling_rate)
        if self._pooling != "model" and kind in (*_CLAP, *_PERCEPTION):
            raise ValueError(
                f"params.yaml: features.music.pooling: {folder} is a {kind} model, which has an embedding of its own; "
                "use model"
            )
        most = self._most_samples()
        if most is not None and round(params.segment_s * self._rate_hz) > most:
            raise ValueError(
                f"params.yaml: features.segment_s: the model of {folder} hears {most / self._rate_hz:g} s at once, "
                f"not {params.segment_s:g} s; lower it"
            )
        self._config = sub_config(config, "audio") if kind in _PERCEPTION else config
        if kind in _CLAP:
            self.dims = int((getattr(config, "audio_config", None) or config).projection_dim)
        else:
            self.dims = int((self._config.text_config if kind in _PERCEPTION else config).hidden_size)
        self.reader = SoundReader(params.segment_s, params.max_segments, self._rate_hz)

    def preprocessing(self) -> dict[str, Any]:
        """See ``Encoder.preprocessing``."""
        return {"pooling": self._pooling, "sample_rate_hz": self._rate_hz}

    def load(self, device: "torch.device", dtype: "torch.dtype") -> int:
        """See ``Encoder.load``."""
        import transformers

        from components.features.hf.mel import AstSound, ClapSound

        self._front: Callable[[torch.Tensor], torch.Tensor]
        if self._kind in _CLAP:
            model = load_model(transformers.ClapAudioModelWithProjection, self._folder)
            self._front = ClapSound(self._extractor, device)
        elif self._kind in _AST:
            model = load_model(transformers.ASTModel, self._folder)
            self._front = AstSound(self._extractor, device)
        elif self._kind in _PERCEPTION:
            model = load_perception("audio", self._folder, self._config)
            self._front = self._whole_hops
        else:
            model = load_model(transformers.AutoModel, self._folder)
            self._front = self._normal
        self._model = model.to(device, dtype)
        self._dtype = dtype
        return bytes_of(self._model)

    def __call__(self, items: "torch.Tensor") -> "torch.Tensor":
        """See ``Encoder.__call__``: (B, N) to (B, D)."""
        import torch

        inputs = self._front(items).to(self._dtype)
        found: torch.Tensor
        if self._kind in _CLAP:
            longer = torch.zeros(len(items), 1, dtype=torch.bool, device=items.device)
            found = self._model(input_features=inputs, is_longer=longer).audio_embeds
        elif self._kind in _PERCEPTION:
            found = self._model.audio_head(self._model.audio_encoder(inputs[:, None]).pooler_output)
        else:
            found = self._pooled(self._model(inputs, output_hidden_states=self._pooling == "layers"))
        return found

    def noise(self, item: NDArray[Any]) -> NDArray[Any]:
        """See ``Encoder.noise``."""
        return np.random.default_rng(0).uniform(-0.5, 0.5, item.shape).astype(np.float32)

    def example(self) -> NDArray[Any]:
        """See ``Encoder.example``: a segment."""
        return self.noise(np.zeros((1, round(self.reader.segment_s * self._rate_hz)), np.float32))

    def rows(self, answers: NDArray[np.float32], items: NDArray[Any]) -> NDArray[np.float32]:
        """See ``Encoder.rows``."""
        return answers

    def _most_samples(self) -> int | None:
        if self._kind in _CLAP:
            return int(self._extractor.nb_max_samples)
        if self._kind in _AST:
            from components.features.hf.mel import ast_samples

            return ast_samples(self._extractor)
        return None

    def _pooled(self, output: Any) -> "torch.Tensor":
        """Return (B, D) of states (B, T, D), of the last layer or all of them."""
        import torch

        first = _AST_MARKS if self._kind in _AST else 0
        found: torch.Tensor
        if self._pooling == "model" and first:
            found = output.pooler_output
        elif self._pooling == "layers":
            found = torch.stack([states[:, first:].float().mean(dim=1) for states in output.hidden_states]).mean(dim=0)
        else:
            found = output.last_hidden_state[:, first:].float().mean(dim=1)
        return found

    def _normal(self, sounds: "torch.Tensor") -> "torch.Tensor":
        """Bring each sound to mean 0 and variance 1 where the model asks for it."""
        if not getattr(self._extractor, "do_normalize", False):
            return sounds
        centred = sounds - sounds.mean(dim=1, keepdim=True)
        return centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()

    def _whole_hops(self, sounds: "torch.Tensor") -> "torch.Tensor":
        """Mirror the end of each sound until it is a whole number of the codec's steps."""
        import torch

        rest = -sounds.shape[1] % int(self._extractor.hop_length)
        return torch.nn.functional.pad(sounds[:, None], (0, rest), mode="reflect")[:, 0] if rest else sounds
