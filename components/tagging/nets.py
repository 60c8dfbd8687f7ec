"""Three published music taggers: FCN, CRNN and Musicnn, sized by the weights they are given.

Won, Ferraro, Bogdanov, Serra: Evaluation of CNN-based automatic music tagging models (SMC 2020).
Names of parts are those in the published state dicts, which load strictly. All take sound at
16 kHz, (B, N), and give logits, (B, L). T stands for spectra over time, C for channels.
"""

from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch import Tensor, nn

from components.tagging.frontend import MelDecibels

Architecture = Literal["fcn", "crnn", "musicnn"]

# Seconds of sound that each was trained on.
WINDOW_S: Final[dict[Architecture, float]] = {"fcn": 29.1, "crnn": 29.1, "musicnn": 3.0}

# A weight that only this architecture has.
_MARKS: Final[dict[Architecture, str]] = {
    "fcn": "layer5.conv.weight",
    "crnn": "layer5.weight_ih_l0",
    "musicnn": "layers.0.conv.weight",
}

State = Mapping[str, Tensor]


class _Conv2d(nn.Module):
    """3 x 3 convolution, batch norm, rectifier, maximum over (bands, spectra)."""

    def __init__(self, state: State, name: str, pool: tuple[int, int]) -> None:
        super().__init__()
        out, into = state[f"{name}.conv.weight"].shape[:2]
        self.conv = nn.Conv2d(into, out, 3, padding=1)
        self.bn = nn.BatchNorm2d(out)
        self.pool = nn.MaxPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(torch.relu(self.bn(self.conv(x))))
        return pooled


class Fcn(nn.Module):
    """Five convolutions that leave one number per channel (Choi et al., 2016)."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.spec, self.spec_bn = _front(state)
        self.layer1 = _Conv2d(state, "layer1", (2, 4))
        self.layer2 = _Conv2d(state, "layer2", (2, 4))
        self.layer3 = _Conv2d(state, "layer3", (2, 4))
        self.layer4 = _Conv2d(state, "layer4", (3, 5))
        self.layer5 = _Conv2d(state, "layer5", (4, 4))
        self.dense = _linear(state, "dense")

    def forward(self, sound: Tensor) -> Tensor:
        x = self.spec_bn(self.spec(sound).unsqueeze(1))  # (B, 1, 96, 1819)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            x = layer(x)
        logits: Tensor = self.dense(x.flatten(1))  # (B, 64) to (B, L)
        return logits


class Crnn(nn.Module):
    """Four convolutions, then a recurrent net over what is left of time (Choi et al., 2017)."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.spec, self.spec_bn = _front(state)
        self.layer1 = _Conv2d(state, "layer1", (2, 2))
        self.layer2 = _Conv2d(state, "layer2", (3, 3))
        self.layer3 = _Conv2d(state, "layer3", (4, 4))
        self.layer4 = _Conv2d(state, "layer4", (4, 4))
        into, hidden = state["layer5.weight_ih_l0"].shape[1], state["layer5.weight_hh_l0"].shape[1]
        self.layer5 = nn.GRU(into, hidden, num_layers=2, batch_first=True)
        self.dense = _linear(state, "dense")

    def forward(self, sound: Tensor) -> Tensor:
        x = self.spec_bn(self.spec(sound).unsqueeze(1))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        states, _ = self.layer5(x.squeeze(2).transpose(1, 2))  # (B, C, 1, T) to (B, T, hidden)
        logits: Tensor = self.dense(states[:, -1])
        return logits


class _Timbre(nn.Module):
    """Filters as high as a timbre, anywhere in the spectrum (Pons and Serra, 2019)."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        out, into, bands, spectra = state[f"{name}.conv.weight"].shape
        self.conv = nn.Conv2d(into, out, (bands, spectra), padding=(0, spectra // 2))
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        loudest: Tensor = torch.relu(self.bn(self.conv(x))).amax(2)  # (B, 1, 96, T) to (B, C, T)
        return loudest


class _Rhythm(nn.Module):
    """Filters as long as a rhythm, over the mean of all bands (Pons and Serra, 2019)."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        out, into, spectra = state[f"{name}.conv.weight"].shape
        self.conv = nn.Conv1d(into, out, spectra, padding=spectra // 2)
        self.bn = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        rhythm: Tensor = torch.relu(self.bn(self.conv(x.mean(2))))  # (B, 1, 96, T) to (B, C, T)
        return rhythm


class _Conv1d(nn.Module):
    """Convolution over time, batch norm, rectifier."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        out, into, spectra = state[f"{name}.conv.weight"].shape
        self.conv = nn.Conv1d(into, out, spectra, padding=spectra // 2)
        self.bn = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.relu(self.bn(self.conv(x)))
        return y


class Musicnn(nn.Module):
    """Timbre and rhythm filters side by side, then residual convolutions (Pons and Serra, 2019)."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.spec, self.spec_bn = _front(state)
        self.layers = nn.ModuleList(
            [_Timbre(state, f"layers.{n}") for n in (0, 1)] + [_Rhythm(state, f"layers.{n}") for n in (2, 3, 4)]
        )
        self.layer1 = _Conv1d(state, "layer1")
        self.layer2 = _Conv1d(state, "layer2")
        self.layer3 = _Conv1d(state, "layer3")
        self.dense1 = _linear(state, "dense1")
        self.bn = nn.BatchNorm1d(len(state["bn.weight"]))
        self.dense2 = _linear(state, "dense2")

    def forward(self, sound: Tensor) -> Tensor:
        x = self.spec_bn(self.spec(sound).unsqueeze(1))
        x = torch.cat([layer(x) for layer in self.layers], 1)  # (B, 561, T)
        one = self.layer1(x)
        two = self.layer2(one) + one
        three = self.layer3(two) + two
        x = torch.cat([x, one, two, three], 1)
        x = torch.cat([x.amax(2), x.mean(2)], 1)
        logits: Tensor = self.dense2(torch.relu(self.bn(self.dense1(x))))
        return logits


def build_net(architecture: Architecture, state: State) -> nn.Module:
    """Return the net with its weights, ready to listen.

    Raises:
        ValueError: the weights are another architecture's, or have parts of wrong size; one line.
    """
    found = [name for name, mark in _MARKS.items() if mark in state]
    if found != [architecture] or "spec.mel_scale.fb" not in state or "spec.spectrogram.window" not in state:
        what = f"weights of {' or '.join(found)}" if found else "not weights of FCN, CRNN or Musicnn"
        lacks = "" if "spec.mel_scale.fb" in state else ", and without the mel filterbank (spec.mel_scale.fb)"
        raise ValueError(f"{what}{lacks}; tagging.architecture is {architecture}")
    try:
        net = {"fcn": Fcn, "crnn": Crnn, "musicnn": Musicnn}[architecture](state)
        net.load_state_dict(state, strict=True)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ValueError(f"the weights do not fit {architecture}: {' '.join(str(error).split())[:300]}") from None
    return net.eval()


def _front(state: State) -> tuple[MelDecibels, nn.BatchNorm2d]:
    return MelDecibels(len(state["spec.spectrogram.window"]), state["spec.mel_scale.fb"].shape[1]), nn.BatchNorm2d(1)


def _linear(state: State, name: str) -> nn.Linear:
    out, into = state[f"{name}.weight"].shape
    return nn.Linear(into, out)
