"""A whole training run from files' content to a fitted model and its record."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from components import stage, tables
from components.encoder.device import settle
from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.modalities import MODALITIES
from components.training.checkpoint import Checkpoints, identity
from components.training.data import Clips, Features
from components.training.draws import torch_seed
from components.training.loop import Outcome, fit
from components.training.params import TrainingSection
from components.training.statistics import standardise_inputs

HISTORY = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A fitted model, the history as rows, the summary, and the checkpoints to remove once all is written."""

    model: TrimodalModel
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    checkpoints: Checkpoints

    def write_record(self, history: Path, summary: Path) -> None:
        """Write the history as a table in long form and the summary as JSON."""
        tables.write_rows(history, self.history, HISTORY, sort_by=("step", "name"))
        stage.write_json(summary, self.summary)


def train(
    manifest: Sequence[dict[str, Any]],
    features: Features,
    encoder: EncoderSection,
    section: TrainingSection,
    folder: Path,
) -> Trained:
    """Fit the model of section ``encoder``; ``folder`` holds the checkpoint of an unfinished run.

    Raises:
        ValueError: too few clips, or the loss diverged.
    """
    clips = features.clips(manifest, "train", section.least_train_clips)
    val = features.clips(manifest, "val", section.least_val_clips)
    device = settle(section.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(section.seed, "weights", 0))
        model = TrimodalModel(encoder, {m: features.store(m).spec["dims"] for m in MODALITIES})
    standardise_inputs(model, features, clips, human_text=section.human_text > 0)
    saved = Checkpoints(folder, _bound_to(features, encoder, section, clips, val, device))
    outcome = fit(model.to(device), features, clips, val, section, saved)
    rows = [{"step": step, "name": name, "value": value} for step, name, value in outcome.history]
    return Trained(model, rows, _summary(outcome, model, features, clips, val, section, device), saved)


def _bound_to(
    features: Features,
    encoder: EncoderSection,
    section: TrainingSection,
    clips: Clips,
    val: Clips,
    device: torch.device,
) -> str:
    stores = (features.video, features.music, features.captions, features.annotations)
    # spec.json holds the checksums of the shards, the index which row is whose.
    contents = [(store.folder / name).read_bytes() for store in stores for name in ("spec.json", "index.parquet")]
    splits: list[str | bytes] = [*clips.ids, "", *val.ids, clips.tracks.tobytes(), val.tracks.tobytes()]
    computer = [torch.__version__, device.type]
    return identity([encoder.model_dump_json(), section.model_dump_json(), *computer, *splits, *contents])


def _summary(
    outcome: Outcome, model: TrimodalModel, features: Features, clips: Clips, val: Clips,
    section: TrainingSection, device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    at_best = {row[1]: row[2] for row in outcome.history if row[0] == outcome.best_step}
    weights = hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in model.parameters()))
    return {
        "best_step": outcome.best_step,
        "last_step": outcome.last_step,
        "stopped_because": outcome.stopped_because,
        "at_best_step": at_best,
        "batch": outcome.batch,
        "device": device.type,
        "seed": section.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_sha256": weights.hexdigest(),
        "train_clips": {
            "used": len(clips),
            "captioned": sum(clip in features.captions for clip in clips.ids),
            "annotated": sum(clip in features.annotations for clip in clips.ids),
        },
        "val_clips": {"used": len(val), "annotated": sum(clip in features.annotations for clip in val.ids)},
    }
