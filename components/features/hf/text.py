"""Encoders of text: CLIP, SigLIP, CLAP, PE-AV, and sentence encoders such as MiniLM.

B texts, T tokens, D dims.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.features.hf.device import bytes_of
from components.features.hf.encoder import Encoder, read_config, unknown_kind
from components.features.hf.perception import JOINT, Part, load_perception, sub_config
from components.features.hf.sentences import Pooling, read_pooling
from components.features.hf.tokens import TokenReader
from components.features.params import HfParams
from components.features.source import Source
from components.hub import load_model, load_part

if TYPE_CHECKING:
    import torch

_CLIP = ("clip", "clip_text_model")
_SIGLIP = ("siglip", "siglip_text_model")
_SIGLIP2 = ("siglip2", "siglip2_text_model")
_CLAP = ("clap", "clap_text_model")
_PERCEPTION = ("pe_audio", "pe_video", JOINT)
_SENTENCES = (
    "bert", "distilbert", "roberta", "xlm-roberta", "mpnet", "albert", "electra", "deberta-v2", "modernbert",
)  # fmt: skip

_SENTENCE = "Warm acoustic folk with a hopeful mood and no vocals."


def text_encoder(params: HfParams, folder: Path) -> Encoder:
    """Return the encoder of the text model in ``folder``.

    Raises:
        ValueError: it is none, or texts may have more tokens than it reads: the key is named.
    """
    import transformers

    config = read_config(folder)
    kind = str(config.model_type)
    if kind not in (known := (*_CLIP, *_SIGLIP, *_SIGLIP2, *_CLAP, *_PERCEPTION, *_SENTENCES)):
        raise unknown_kind(folder, kind, "text", known)
    return Texts(params, folder, config, kind, load_part(transformers.AutoTokenizer, folder))


class Texts:
    """See ``Encoder``. A text has one embedding, or one of each token."""

    weigh = 1
    unit = "texts"

    def __init__(self, params: HfParams, folder: Path, config: Any, kind: str, tokenizer: Any) -> None:
        """Check that the model reads as many tokens; the weights come later."""
        self._folder, self._kind, self._config = folder, kind, config
        self._pooled = params.text.output == "pooled"
        self._max_tokens = params.text.max_tokens
        tower = getattr(config, "text_config", None) or config
        self._pooling = read_pooling(folder) if kind in _SENTENCES else Pooling("mean", False)
        self.max_segments = 1 if self._pooled else self._max_tokens
        projected = self._pooled and kind in (*_CLIP, *_CLAP)
        # SigLIP's pooled text is a projection too, but of a size with a name of its own.
        siglip = self._pooled and kind in (*_SIGLIP, *_SIGLIP2)
        name = "projection_dim" if projected else "projection_size" if siglip else "hidden_size"
        self.dims = int(getattr(tower, name, None) or tower.hidden_size)
        most = _most_tokens(tower, tokenizer, kind)
        if self._max_tokens > most:
            raise ValueError(
                f"params.yaml: features.text.max_tokens: the model of {folder} reads {most} tokens, "
                f"not {self._max_tokens}; lower it"
            )
        self.reader = TokenReader(tokenizer, self._max_tokens, whole=kind in (*_SIGLIP, *_SIGLIP2))

    def preprocessing(self) -> dict[str, Any]:
        """See ``Encoder.preprocessing``."""
        about = {"pooling": self._pooling.mode, "unit": self._pooling.unit} if self._kind in _SENTENCES else {}
        return {"output": "pooled" if self._pooled else "tokens", "max_tokens": self._max_tokens, **about}

    def load(self, device: "torch.device", dtype: "torch.dtype") -> int:
        """See ``Encoder.load``."""
        import transformers

        kinds = {
            _CLIP: transformers.CLIPTextModelWithProjection,
            _SIGLIP: transformers.SiglipTextModel,
            _SIGLIP2: transformers.Siglip2TextModel,
            _CLAP: transformers.ClapTextModelWithProjection,
            _SENTENCES: transformers.AutoModel,
        }
        if self._kind in _PERCEPTION:
            # Of a model of all three the head that meets sound: the texts describe music.
            part: Part = "video" if self._kind == "pe_video" else "audio"
            model = load_perception(part, self._folder, sub_config(self._config, part))
            self._head = getattr(model, f"text_{part}_head").to(device, dtype)
            self._model = model.text_model.to(device, dtype)
            return bytes_of(self._model, self._head)
        kind = next(kinds[names] for names in kinds if self._kind in names)
        # A layer that sentence encoders do not use, and that many are published without.
        spare = {"add_pooling_layer": False} if self._kind in ("bert", "roberta", "xlm-roberta", "mpnet") else {}
        self._model = load_model(kind, self._folder, **spare).to(device, dtype)
        return bytes_of(self._model)

    def __call__(self, items: "torch.Tensor") -> "torch.Tensor":
        """See ``Encoder.__call__``: (B, 2, T) to (B, D) or (B, T, D)."""
        ids, mask = items[:, 0], items[:, 1]
        # SigLIP was trained on filled up texts without a mask.
        told = {} if self._kind in (*_SIGLIP, *_SIGLIP2) else {"attention_mask": mask}
        output = self._model(input_ids=ids, **told)
        found: torch.Tensor
        if not self._pooled:
            found = output.last_hidden_state
        elif self._kind in (*_CLIP, *_CLAP):
            found = output.text_embeds
        elif self._kind in (*_SIGLIP, *_SIGLIP2):
            found = output.pooler_output
        elif self._kind in _PERCEPTION:
            found = self._head(output.last_hidden_state[:, 0])
        else:
            found = self._pooling(output.last_hidden_state, mask)
        return found

    def noise(self, item: NDArray[Any]) -> NDArray[Any]:
        """See ``Encoder.noise``; a text's own tokens, since others may not mark its end."""
        return item

    def example(self) -> NDArray[Any]:
        """See ``Encoder.example``."""
        return self.reader(Source("example", "", text=_SENTENCE))

    def rows(self, answers: NDArray[np.float32], items: NDArray[Any]) -> NDArray[np.float32]:
        """See ``Encoder.rows``."""
        return answers if self._pooled else answers[0][items[0, 1].astype(bool)]


def _most_tokens(tower: Any, tokenizer: Any, kind: str) -> int:
    """Return how many tokens a model reads."""
    positions = int(getattr(tower, "max_position_embeddings", 0) or 512)
    if kind in (*_CLAP, "roberta", "xlm-roberta", "mpnet"):
        positions -= 2  # theirs begin after the padding token's
    return min(positions, int(min(tokenizer.model_max_length, 1 << 30)))
