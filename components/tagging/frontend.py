"""The ear of the published 16 kHz taggers: sound to decibels in mel bands, by the tensors they were saved with."""

import torch
from torch import Tensor, nn

RATE_HZ = 16_000
_FLOOR = 1e-10  # power below which a band counts as silent: -100 dB


class _Spectrogram(nn.Module):
    """Power spectra of Hann windows, half a window apart, centred, mirrored at the edges."""

    window: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.zeros(length))

    def forward(self, sound: Tensor) -> Tensor:
        """(B, N) samples to (B, length / 2 + 1, 1 + N // hop) power."""
        length = len(self.window)
        spectrum = torch.stft(sound, length, length // 2, window=self.window, center=True, return_complex=True)
        return spectrum.real.square() + spectrum.imag.square()


class _MelScale(nn.Module):
    """Triangular bands on the mel scale (HTK's formula, peaks of height 1, 0 to 8,000 Hz)."""

    fb: Tensor

    def __init__(self, bins: int, bands: int) -> None:
        super().__init__()
        self.register_buffer("fb", torch.zeros(bins, bands))

    def forward(self, power: Tensor) -> Tensor:
        """(B, bins, T) to (B, bands, T)."""
        return torch.einsum("bft,fm->bmt", power, self.fb)


class MelDecibels(nn.Module):
    """Mel spectrogram in dB. Names of parts are those in the published state dicts."""

    def __init__(self, length: int, bands: int) -> None:
        """``length``: samples of a window; ``bands``: mel bands. The numbers come with the weights."""
        super().__init__()
        self.spectrogram = _Spectrogram(length)
        self.mel_scale = _MelScale(length // 2 + 1, bands)

    def forward(self, sound: Tensor) -> Tensor:
        """(B, N) samples at 16 kHz to (B, bands, T) dB, -100 and up."""
        mel: Tensor = self.mel_scale(self.spectrogram(sound))
        return 10.0 * torch.log10(mel.clamp(min=_FLOOR))
