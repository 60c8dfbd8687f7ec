"""Retrieval on the val clips: what early stopping looks at."""

import numpy as np

from components.encoder.embed import MODES, Gathers, embed_music, embed_queries
from components.encoder.model import TrimodalModel
from components.encoder.ranking import ranks
from components.modalities import TEXT, VIDEO, Modality
from components.training.data import Clips, Features

# The first decides, the second decides ties.
MONITORED = ("val/video+text/R@10", "val/video+text/MRR")


def validate(model: TrimodalModel, features: Features, clips: Clips) -> dict[str, float]:
    """Return R@10 and mean reciprocal rank per query mode, video to music, over the val pool.

    A clip's text is its annotation where there is one, else its caption. Where no clip has a text,
    video+text is video alone.
    """
    sources: dict[Modality, Gathers] = {VIDEO: features.video, TEXT: clips.texts}
    music = embed_music(model, features.music, clips.ids)
    same_track = clips.tracks[:, None] == clips.tracks[None, :]
    described = clips.texts.described().tolist()
    found = {}
    for mode, modalities in MODES.items():
        # Without video there must be a text; with both, a clip without text still has its video.
        rows = described if VIDEO not in modalities else list(range(len(clips)))
        if not rows:
            continue
        query = embed_queries(model, {m: sources[m] for m in modalities}, [clips.ids[at] for at in rows])
        rank = ranks(query @ music.T, same_track[rows])
        found[f"val/{mode}/R@10"] = float(np.mean(rank <= 10))
        found[f"val/{mode}/MRR"] = float(np.mean(1.0 / rank))
    return found
