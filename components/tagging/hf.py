"""An audio classification model of the transformers library as a listener."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.code import code_digest
from components.device import choose_device
from components.hub import folder_digest, load, load_model, load_part, model_folder
from components.tagging.params import HfParams

_ACTIVATIONS = {"multi_label_classification": "sigmoid", "single_label_classification": "softmax"}


class Hf:
    """See ``Listener``."""

    def __init__(self, params: HfParams) -> None:
        """Load the model and what prepares its input.

        Raises:
            ValueError: the folder is not that of an audio classifier, or it does not tell what its outputs mean.
        """
        import transformers

        folder = model_folder(params.model, params.revision)
        self._extractor = load_part(transformers.AutoFeatureExtractor, folder)
        model = load_model(transformers.AutoModelForAudioClassification, folder)
        names = model.config.id2label
        self.labels = tuple(str(names[at]) for at in sorted(names))
        if all(label.startswith("LABEL_") for label in self.labels):
            raise ValueError(f"{folder}/config.json: id2label does not tell what the outputs mean")
        said = _ACTIVATIONS.get(str(model.config.problem_type), "")
        self._activation = said if params.activation == "config" else params.activation
        if not self._activation:
            raise ValueError(f"{folder}/config.json: no problem_type; set tagging.activation to sigmoid or softmax")
        self.rate_hz = int(self._extractor.sampling_rate)
        self.window_s = params.window_s
        parts = [code_digest(Hf), folder_digest(folder), params.window_s, self._activation]
        self.digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self._device = choose_device(params.device, params.threads, "tagging.device")
        self._model = model.to(self._device)
        self._try(folder)

    def __call__(self, sounds: NDArray[np.float32]) -> NDArray[np.float64]:
        """See ``Listener``."""
        import torch

        inputs = self._inputs(sounds)
        with torch.inference_mode():
            logits = self._model(**inputs.to(self._device)).logits.double()
            probabilities = torch.sigmoid(logits) if self._activation == "sigmoid" else torch.softmax(logits, -1)
            return np.asarray(probabilities.cpu().numpy())

    def _try(self, folder: Path) -> None:
        """Hear two windows that differ in their last tenth of a second only.

        Raises:
            ValueError: extractor and model do not fit each other, or windows are longer than they take.
        """
        length, tail = round(self.window_s * self.rate_hz), self.rate_hz // 10
        sound = np.sin(np.arange(length, dtype=np.float32) ** 1.3)
        cut = np.concatenate([sound[:-tail], np.zeros(min(tail, length), np.float32)])
        one, two = (self._inputs(some[None]) for some in (sound, cut))
        if all((one[name] == two[name]).all() for name in one):
            raise ValueError(
                f"params.yaml: tagging.window_s: the model of {folder} hears less than {self.window_s:g} s at once; lower it"
            )
        load("model", folder, lambda: self(sound[None]))

    def _inputs(self, sounds: NDArray[np.float32]) -> Any:
        return self._extractor(list(sounds), sampling_rate=self.rate_hz, return_tensors="pt")
