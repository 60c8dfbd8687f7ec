"""From sound to what CLAP and AST take, as the library's extractors make it, but batched and on the device.

Spectra are computed in float64: in float32 the rounding of a loud tone is louder than the quietest
band that these models tell apart. B sounds, N samples, T spectra, M bands.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_FLOOR_DB = 1e-10  # power below which a band counts as silent: -100 dB
# AST hears as Kaldi does: 25 ms windows, 10 ms apart, at 16 kHz.
_WINDOW, _HOP, _POINTS, _PREEMPHASIS, _FLOOR = 400, 160, 512, 0.97, float(np.finfo(np.float32).eps)


class ClapSound:
    """(B, N) samples to (B, 1 or 4, T, M) decibels in mel bands."""

    def __init__(self, extractor: Any, device: torch.device) -> None:
        """``extractor``: the library's, for its settings and filters."""
        self._samples = int(extractor.nb_max_samples)
        self._window, self._hop = int(extractor.fft_window_size), int(extractor.hop_length)
        self._padding = str(extractor.padding)
        # A model with fusion takes four views of a sound; of one that is not too long they are the same.
        self._views = 4 if extractor.truncation == "fusion" else 1
        filters = extractor.mel_filters if self._views == 4 else extractor.mel_filters_slaney
        self._filters = torch.from_numpy(np.ascontiguousarray(filters.T, np.float64)).to(device)
        self._hann = torch.hann_window(self._window, periodic=True, dtype=torch.float64, device=device)

    def __call__(self, sounds: Tensor) -> Tensor:
        """Fill the model's window and transform; sounds are at most as long as it."""
        times = self._samples // sounds.shape[1]
        if self._padding == "repeatpad":
            sounds = sounds.repeat(1, times)
        elif self._padding == "repeat":
            sounds = sounds.repeat(1, times + 1)[:, : self._samples]
        sounds = torch.nn.functional.pad(sounds, (0, self._samples - sounds.shape[1]))
        spectrum = torch.stft(
            sounds.double(),
            self._window,
            self._hop,
            window=self._hann,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        decibels = 10.0 * (self._filters @ power).clamp(min=_FLOOR_DB).log10()
        return decibels.transpose(1, 2)[:, None].expand(-1, self._views, -1, -1).float()


class AstSound:
    """(B, N) samples to (B, T, M) normalised log energies in mel bands."""

    def __init__(self, extractor: Any, device: torch.device) -> None:
        """``extractor``: the library's, for its settings."""
        from transformers.audio_utils import mel_filter_bank

        self._length = int(extractor.max_length)
        self._mean, self._deviation = float(extractor.mean), 2 * float(extractor.std)
        if not extractor.do_normalize:
            self._mean, self._deviation = 0.0, 1.0
        filters = mel_filter_bank(
            num_frequency_bins=_POINTS // 2 + 1,
            num_mel_filters=int(extractor.num_mel_bins),
            min_frequency=20,
            max_frequency=extractor.sampling_rate // 2,
            sampling_rate=extractor.sampling_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        self._filters = torch.from_numpy(np.ascontiguousarray(filters, np.float64)).to(device)
        self._hann = torch.hann_window(_WINDOW, periodic=False, dtype=torch.float64, device=device)

    def __call__(self, sounds: Tensor) -> Tensor:
        """Transform, and fill up with zeros to the model's length."""
        frames = sounds.double().unfold(1, _WINDOW, _HOP)  # (B, T, window)
        frames = frames - frames.mean(dim=2, keepdim=True)
        # The first sample of a frame has none before it: it is its own predecessor.
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        spectrum = torch.fft.rfft((frames - _PREEMPHASIS * before) * self._hann, _POINTS)
        power = spectrum.real.square() + spectrum.imag.square()
        logs = (power @ self._filters).clamp(min=_FLOOR).log()
        logs = torch.nn.functional.pad(logs, (0, 0, 0, self._length - logs.shape[1]))
        return ((logs - self._mean) / self._deviation).float()


def ast_samples(extractor: Any) -> int:
    """Return the most samples that AST hears at once."""
    return _WINDOW + int(extractor.max_length) * _HOP - 1
