"""What each kind of row fits; every fit ends in a scorer, so all are measured by the same code."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.encoder.embed import Gathers
from components.encoder.model import Arrays
from components.encoder.params import EncoderSection
from components.encoder.serialise import load_model
from components.evaluation.baselines.cca_scorer import fit_cca_scorer
from components.evaluation.baselines.chance import ChanceScorer
from components.evaluation.baselines.examples import Examples
from components.evaluation.baselines.late_fusion import fit_late_fusion
from components.evaluation.baselines.popularity import fit_popularity
from components.evaluation.scorer import ModelScorer, Scorer
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.training.data import Features, Texts
from components.training.params import TrainingSection
from components.training.run import train

MODEL = "model"  # of a result folder


@dataclass(frozen=True)
class Inputs:
    """What is fitted on, and where a model is left.

    Attributes:
        manifest: rows of the clips.
        features: stores of every modality.
        folder: of the result.
    """

    manifest: list[dict[str, Any]]
    features: Features
    folder: Path


@dataclass(frozen=True)
class Mixed:
    """Captions for some clips, human descriptions for the others; which is which depends on the clip and the seed.

    Attributes:
        written: captions.
        told: descriptions, or captions where there is none.
        share: of clips that show their description, 0 to 1.
        seed: of the choice.
    """

    written: Texts
    told: Texts
    share: float
    seed: int

    def gather(self, clip_ids: Sequence[str]) -> Arrays:
        """Return (B, S, D) features and the (B, S) mask."""
        (written, read), (told, heard) = self.written.gather(clip_ids), self.told.gather(clip_ids)
        human = np.array([_uniform(self.seed, clip) < self.share for clip in clip_ids])
        return np.where(human[:, None, None], told, written), np.where(human[:, None], heard, read)


def _uniform(seed: int, clip_id: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}:{clip_id}".encode()).digest()[:8], "big") / 2.0**64


def fit(
    kind: str, inputs: Inputs, encoder: EncoderSection, training: TrainingSection, parts: Sequence[Path]
) -> tuple[Scorer, dict[str, Any]]:
    """Fit one system; return what scores, and facts worth keeping.

    Args:
        kind: see ``Row.fit``.
        inputs: data and place.
        encoder: of a trimodal model.
        training: of a trimodal model; its seed also draws chance.
        parts: result folders of the models that late fusion adds, by video and by text.
    """
    match kind:
        case "trimodal":
            return _trimodal(inputs, encoder, training)
        case "late-fusion":
            video, text = (ModelScorer(load_model(part / MODEL).model) for part in parts)
            fused = fit_late_fusion(video, text, _examples(inputs, "val", training))
            return fused, {"weight_of_text": fused.weight}
        case "cca":
            cca = fit_cca_scorer(_examples(inputs, "train", training), _examples(inputs, "val", training), spread=False)
            return cca, {"settings": {mode: vars(fitted.setting) for mode, fitted in cca.modes.items()}}
        case "popularity":
            return fit_popularity(_examples(inputs, "train", training)), {}
        case "chance":
            return ChanceScorer(training.seed), {}
        case _:
            raise ValueError(f"study: no fit is called {kind!r}")


def _trimodal(inputs: Inputs, encoder: EncoderSection, training: TrainingSection) -> tuple[Scorer, dict[str, Any]]:
    trained = train(inputs.manifest, inputs.features, encoder, training, inputs.folder / "checkpoints")
    trained.write(*(inputs.folder / name for name in (MODEL, "history.parquet", "summary.json", "speed.json")))
    facts = {name: trained.summary[name] for name in ("best_step", "last_step", "parameters")}
    return ModelScorer(trained.model.eval()), facts


def _examples(inputs: Inputs, split: str, training: TrainingSection) -> Examples:
    least = training.least_train_clips if split == "train" else training.least_val_clips
    clips = inputs.features.clips(inputs.manifest, split, least)
    captions, annotations = inputs.features.captions, inputs.features.annotations
    written, told = Texts(captions, captions, clips.ids), Texts(captions, annotations, clips.ids)
    # Judged on human words; in training, of the share of clips that the trimodal model would see them of.
    text: Gathers = told if split == "val" else Mixed(written, told, training.human_text, training.seed)
    sources: dict[Modality, Gathers] = {VIDEO: inputs.features.video, MUSIC: inputs.features.music, TEXT: text}
    return Examples(sources, clips.ids, clips.tracks)
