"""A pool whose answers are known: music has two traits, video shows one and text the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.encoder.embed import MODES, Gathers
from components.evaluation.params import EvaluationSection
from components.increments import update_store
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.store import FeatureStore

SECTION: dict[str, Any] = {
    "seed": 5, "threads": 1, "pool_size": None, "pools": None, "least_test_clips": 2, "resamples": 200, "confidence": 0.95,
    "guidance": [0.0, 0.5, 1.0], "least_slice": 3, "length_edges_s": [5.0, 10.0],
}  # fmt: skip


def section(**changes: Any) -> EvaluationSection:
    return EvaluationSection.model_validate(SECTION | changes)


def write_traits(
    root: Path, seen: Sequence[int], heard: Sequence[int], sizes: tuple[int, int]
) -> tuple[list[dict[str, Any]], dict[Modality, FeatureStore]]:
    """Write one-hot stores: video shows ``seen``, text tells ``heard``, music has both; each clip its own track."""
    traits = {VIDEO: np.eye(sizes[0])[list(seen)], TEXT: np.eye(sizes[1])[list(heard)]}
    traits[MUSIC] = np.concatenate([traits[VIDEO], traits[TEXT]], axis=1)
    ids = [f"clip-{at:03d}" for at in range(len(seen))]
    stores: dict[Modality, FeatureStore] = {}
    modalities: tuple[Modality, ...] = (VIDEO, TEXT, MUSIC)
    for modality in modalities:
        values = traits[modality]
        spec = {"modality": modality, "dims": values.shape[1], "max_segments": 1}
        update_store(root / modality, spec, [(clip, "1") for clip in ids],
                     lambda wanted, v=values: ((clip, v[[ids.index(clip)]]) for clip in wanted), 64)  # fmt: skip
        stores[modality] = FeatureStore.open(root / modality)
    rows = [{"clip_id": clip, "video_id": clip, "track_id": f"t{at}", "artist_id": f"a{at}", "split": "test",
             "start_s": 0.0, "end_s": 4.0 + 4.0 * (at % 2)} for at, clip in enumerate(ids)]  # fmt: skip
    return rows, stores


class Traits:
    """Scores by how many of the shown traits the music has; exact, so ties are plenty."""

    def __init__(self, weight: Mapping[Modality, float] | None = None) -> None:
        self.weight = weight or {VIDEO: 1.0, TEXT: 1.0}

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        shown = {m: sources[m].gather(ids)[0][:, 0] * self.weight[m] for m in MODES[mode]}
        music = sources[MUSIC].gather(ids)[0][:, 0]
        width = sources[VIDEO].gather(ids)[0].shape[2]
        parts = {VIDEO: music[:, :width], TEXT: music[:, width:]}
        total: NDArray[np.float32] = np.sum(
            [values @ parts[m].T for m, values in shown.items()], axis=0, dtype=np.float32
        )
        return total


class Drawn:
    """Scores drawn per pair of clips: no structure, the same for a pair whatever else is in the pool."""

    def __init__(self, levels: int = 0, seed: int = 0) -> None:
        self.levels, self.seed = levels, seed

    def scores(self, sources: Mapping[Modality, Gathers], ids: Sequence[str], mode: str) -> NDArray[np.float32]:
        numbers = [int(clip.rpartition("-")[2]) for clip in ids]
        table = np.random.default_rng([self.seed, len(mode)]).random((64, 64)).astype(np.float32)
        found = table[np.ix_(numbers, numbers)]
        return np.floor(found * self.levels) if self.levels else found
