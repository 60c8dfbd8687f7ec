"""The one place that chooses an encoder; each is imported only where it is asked for."""

from pathlib import Path
from typing import assert_never

from components.features.hf.encoder import Encoder
from components.features.params import HfParams
from components.modalities import Modality


def build_encoder(params: HfParams, modality: Modality, folder: Path) -> Encoder:
    """Return the modality's encoder, from the model in ``folder``.

    Raises:
        ValueError: there is no such model in the folder; it is named.
    """
    match modality:
        case "video":
            from components.features.hf.video import video_encoder

            return video_encoder(params, folder)
        case "music":
            from components.features.hf.music import music_encoder

            return music_encoder(params, folder)
        case "text":
            from components.features.hf.text import text_encoder

            return text_encoder(params, folder)
        case _:
            assert_never(modality)
