"""What each kind of row fits; every fit ends in a scorer, so all are measured by the same code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.encoder.params import EncoderSection
from components.encoder.serialise import load_model
from components.evaluation.baselines.cca_scorer import fit_cca_scorer
from components.evaluation.baselines.chance import ChanceScorer
from components.evaluation.baselines.examples import Examples, split_examples
from components.evaluation.baselines.late_fusion import fit_late_fusion
from components.evaluation.baselines.popularity import fit_popularity
from components.evaluation.scorer import ModelScorer, Scorer
from components.modalities import MUSIC, TEXT, VIDEO, Modality
from components.store import FeatureStore
from components.training.data import Features
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
            return cca, {"settings": cca.settings}
        case "popularity":
            return fit_popularity(_examples(inputs, "train", training)), {}
        case "chance":
            return ChanceScorer(training.seed), {}
        case _:
            raise ValueError(f"study: no fit is called {kind!r}")


def _trimodal(inputs: Inputs, encoder: EncoderSection, training: TrainingSection) -> tuple[Scorer, dict[str, Any]]:
    trained = train(
        inputs.manifest,
        inputs.features,
        encoder,
        training,
        *(inputs.folder / name for name in ("checkpoints", "journal.jsonl")),
    )
    trained.write(*(inputs.folder / name for name in (MODEL, "history.parquet", "summary.json")))
    facts = {name: trained.summary[name] for name in ("best_step", "last_step", "parameters")}
    return ModelScorer(trained.model.eval()), facts


def _examples(inputs: Inputs, split: Literal["train", "val"], training: TrainingSection) -> Examples:
    features = inputs.features
    stores: dict[Modality, FeatureStore] = {VIDEO: features.video, MUSIC: features.music, TEXT: features.captions}
    # Settings are chosen on human words; fits see them for the share of clips that the trimodal model would.
    least, described = {
        "train": (training.least_train_clips, training.human_text), "val": (training.least_val_clips, 1.0),
    }[split]  # fmt: skip
    return split_examples(inputs.manifest, split, stores, features.annotations, least, described, training.seed)
