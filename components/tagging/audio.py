"""A tagger that listens: windows of many clips in one batch, averaged per clip."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.code import code_digest
from components.device import out_of_memory
from components.tagging.clips import Clip
from components.tagging.params import AudioParams
from components.tagging.sound import Sound, count_windows, read_sounds, windows

Array = NDArray[np.float64]

log = logging.getLogger(__name__)


class Listener(Protocol):
    """A model that hears windows of one length. B windows, N samples, L labels."""

    labels: tuple[str, ...]
    rate_hz: int
    window_s: float
    digest: str
    """Of all that decides an answer: code, weights, labels, settings."""

    def __call__(self, sounds: NDArray[np.float32]) -> Array:
        """Return probabilities (B, L) of sounds (B, N).

        Raises:
            torch.OutOfMemoryError: the batch is too large.
        """
        ...


@dataclass
class _Clip:
    """A clip that is being listened to."""

    clip_id: str
    missing: int  # windows
    answers: list[Array]


class AudioTagger:
    """Probabilities of a listener's labels, the mean over all windows of a clip.

    A batch always has the same shape, the last one filled with silence: then an answer does not
    depend on the other windows in its batch, to the bit. Another batch size or device may move a
    probability by some millionths; rows that are there already are kept nevertheless.
    """

    def __init__(self, listener: Listener, params: AudioParams) -> None:
        """``params`` tells hop, batch size and threads."""
        self.labels = listener.labels
        self.digest = hashlib.sha256(
            json.dumps([code_digest(AudioTagger), listener.digest, params.hop_s]).encode()
        ).hexdigest()
        self._listener = listener
        self._workers = params.workers
        self._batch = params.batch_size
        self._length = round(listener.window_s * listener.rate_hz)
        self._hop = max(1, round(params.hop_s * listener.rate_hz))

    def keys(self, clips: Sequence[Clip]) -> dict[str, str]:
        """See ``Tagger.keys``: any clip can be listened to."""
        return {clip.clip_id: clip.key for clip in clips}

    def score(self, clips: Sequence[Clip]) -> Iterator[tuple[str, Array | Exception]]:
        """See ``Tagger.score``."""
        heard: list[tuple[_Clip, Sound]] = []
        for clip_id, sound in read_sounds(clips, self._listener.rate_hz, self._workers):
            if isinstance(sound, Exception):
                yield clip_id, sound
                continue
            clip = _Clip(clip_id, count_windows(len(sound), self._length, self._hop), [])
            for window in windows(sound, self._length, self._hop):
                heard.append((clip, window))
                while len(heard) >= self._batch:
                    yield from self._listen(heard)
        while heard:
            yield from self._listen(heard)

    def _listen(self, heard: list[tuple[_Clip, Sound]]) -> Iterator[tuple[str, Array]]:
        """Take a batch off ``heard``; yield the clips that it completes."""
        answers = self._answers([window for _, window in heard[: self._batch]])
        batch = heard[: len(answers)]
        del heard[: len(answers)]
        for (clip, _), answer in zip(batch, answers, strict=True):
            clip.answers.append(answer)
            clip.missing -= 1
            if not clip.missing:
                yield clip.clip_id, np.mean(clip.answers, axis=0)

    def _answers(self, sounds: list[Sound]) -> Array:
        """Return probabilities (B, L) of the first B sounds, as many as memory holds."""
        while True:
            block = np.zeros((self._batch, self._length), np.float32)
            block[: len(sounds)] = sounds
            try:
                return self._listener(block)[: len(sounds)]
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            if self._batch == 1:
                raise ValueError("tagging: not enough memory to listen to a single window; use a smaller model")
            log.warning("tagging: out of memory with %d windows; going on with %d", self._batch, self._batch // 2)
            self._batch //= 2
            sounds = sounds[: self._batch]
