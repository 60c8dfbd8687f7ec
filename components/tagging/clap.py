"""Zero-shot tagging with CLAP: how well a sentence with the label fits the sound (Wu et al., 2023)."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.code import code_digest
from components.device import choose_device
from components.hub import folder_digest, load, load_model, load_part, model_folder
from components.modalities import TAG_GROUPS
from components.tagging.params import ClapParams
from components.tagging.vocabulary import read_labels, spoken
from components.taxonomy import Taxonomy

Array = NDArray[np.float64]

_TEXTS = 64  # sentences embedded at once


class Clap:
    """See ``Listener``.

    ``contrast`` gives each label a probability of its own, as tags need it: that of the label's
    sentence against the neutral one. ``softmax`` asks which one of a group's labels it is, which
    suits genres and starves the third instrument; its probabilities depend on the list of labels.
    """

    def __init__(self, params: ClapParams, taxonomy: Taxonomy) -> None:
        """Load the model and embed the sentences.

        Raises:
            ValueError: the folder is not that of a CLAP model, or the label file is wrong.
        """
        import transformers

        folder = model_folder(params.model, params.revision)
        self._extractor = load_part(transformers.AutoFeatureExtractor, folder)
        tokenizer = load_part(transformers.AutoTokenizer, folder)
        self._device = choose_device(params.device, params.threads, "tagging.device")
        self._model = load_model(transformers.ClapModel, folder).to(self._device)
        names = dict.fromkeys(name for _, name in taxonomy.entries)
        self.labels = tuple(names) if params.labels is None else read_labels(Path(params.labels))
        self._groups = [next((group for group, _ in taxonomy.find(spoken(label))), "other") for label in self.labels]
        self.rate_hz = int(self._extractor.sampling_rate)
        self.window_s = self._extractor.nb_max_samples / self.rate_hz
        self._softmax = params.probability == "softmax"
        prompts = params.prompts.model_dump()
        sentences = [
            prompts[group].replace("{}", spoken(label)) for label, group in zip(self.labels, self._groups, strict=True)
        ]
        parts = [
            code_digest(Clap),
            folder_digest(folder),
            self.labels,
            sentences,
            prompts["neutral"],
            params.probability,
        ]
        self.digest = hashlib.sha256(json.dumps([*parts, params.temperature]).encode()).hexdigest()
        self._texts = self._embed([*sentences, prompts["neutral"]], tokenizer)  # (L + 1, E)
        self._scale = math.exp(self._model.logit_scale_a.item()) / params.temperature

        silence = np.zeros((1, self._extractor.nb_max_samples), np.float32)
        load("model", folder, lambda: self(silence))  # extractor and model may not fit each other

    def __call__(self, sounds: NDArray[np.float32]) -> Array:
        """See ``Listener``."""
        import torch

        inputs = self._extractor(list(sounds), sampling_rate=self.rate_hz, return_tensors="pt")
        # Where no sound is too long, the extractor calls one of them so by chance; none of ours is.
        inputs["is_longer"] = torch.zeros(len(sounds), 1, dtype=torch.bool)
        with torch.inference_mode():
            heard = self._model.get_audio_features(**inputs.to(self._device, torch.float32)).pooler_output
            likeness = self._scale * (heard.double() @ self._texts.T).cpu().numpy()  # (B, L + 1)
        return self._shared(likeness[:, :-1]) if self._softmax else _contrast(likeness)

    def _shared(self, likeness: Array) -> Array:
        """Softmax over the labels of each group, and over those of none."""
        probabilities = np.zeros_like(likeness)
        for group in (*TAG_GROUPS, "other"):
            inside = [at for at, other in enumerate(self._groups) if other == group]
            if inside:
                weights = np.exp(likeness[:, inside] - likeness[:, inside].max(axis=1, keepdims=True))
                probabilities[:, inside] = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    def _embed(self, sentences: list[str], tokenizer: Any) -> Any:
        import torch

        rows = []
        with torch.inference_mode():
            for first in range(0, len(sentences), _TEXTS):
                tokens = tokenizer(sentences[first : first + _TEXTS], padding=True, return_tensors="pt")
                rows.append(self._model.get_text_features(**tokens.to(self._device)).pooler_output.double())
        return torch.cat(rows)


def _contrast(likeness: Array) -> Array:
    """Return (B, L): each label against the last column, the neutral sentence."""
    return np.asarray(np.exp(-np.logaddexp(0.0, likeness[:, -1:] - likeness[:, :-1])))
