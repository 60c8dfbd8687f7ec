"""A published CNN tagger as a listener."""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.code import code_digest
from components.device import choose_device
from components.hub import file_digest
from components.tagging.frontend import RATE_HZ
from components.tagging.nets import WINDOW_S, build_net
from components.tagging.params import CnnParams
from components.tagging.vocabulary import read_labels
from components.tagging.weights import read_state


class Cnn:
    """See ``Listener``."""

    rate_hz = RATE_HZ

    def __init__(self, params: CnnParams) -> None:
        """Read weights and labels.

        Raises:
            ValueError: a file is missing or damaged, or they do not fit each other or the architecture.
        """
        path = Path(params.weights)
        state = read_state(path)
        self.labels = read_labels(Path(params.labels))
        self.window_s = WINDOW_S[params.architecture]
        try:
            net = build_net(params.architecture, state)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        outputs = len(state["dense2.bias" if params.architecture == "musicnn" else "dense.bias"])
        if outputs != len(self.labels):
            raise ValueError(f"{params.labels}: {len(self.labels)} labels, but {path} has {outputs} outputs")
        parts = [code_digest(Cnn), params.architecture, file_digest(path), self.labels]
        self.digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self._device = choose_device(params.device, params.threads, "tagging.device")
        self._net = net.to(self._device)

    def __call__(self, sounds: NDArray[np.float32]) -> NDArray[np.float64]:
        """See ``Listener``."""
        import torch

        with torch.inference_mode():
            logits = self._net(torch.from_numpy(sounds).to(self._device))
            return np.asarray(torch.sigmoid(logits.double()).cpu().numpy())
