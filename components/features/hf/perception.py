"""The parts of a Perception Encoder Audiovisual model (PE-AV; Vyas et al., 2025): one tower and its head.

A folder holds the model of sound and text, of pictures and text, or of all three. Of the latter only
the part that is asked for is built.
"""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

from components.hub import load_model

Part = Literal["audio", "video"]

JOINT = "pe_audio_video"


def sub_config(config: Any, part: Part) -> Any:
    """Return the config of one part of a model; that of a model of one part is its own."""
    return getattr(config, f"{part}_config") if config.model_type == JOINT else config


def load_perception(part: Part, folder: Path, config: Any) -> Any:
    """Return the model of sound or pictures, with text.

    Raises:
        ValueError: weights are missing, or pictures are asked for where the ``timm`` package, whose
            picture model PE-AV uses, is not installed.
    """
    import transformers

    kind = transformers.PeAudioModel if part == "audio" else transformers.PeVideoModel
    try:
        with redirect_stdout(io.StringIO()):  # the library prints what its own docstrings lack
            # In a folder of all three, names begin with the part's; those of a folder of one do not.
            return load_model(kind, folder, config=config, key_mapping={rf"^{part}_model\.": ""})
    except ValueError as error:
        if "timm" not in str(error):
            raise
        raise ValueError(
            f"{folder}: PE-AV takes its picture model from the package timm, which is not installed "
            "(it needs torchvision, of the same build as torch); use CLIP or SigLIP"
        ) from None
