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
from components.code import code_digest
from components.encoder.model import TrimodalModel
from components.encoder.params import EncoderSection
from components.encoder.serialise import save_model
from components.modalities import MODALITIES, Modality
from components.training.batches import torch_seed
from components.training.checkpoint import Checkpoints, identity
from components.training.closed_form import fit_linear_paths, standardise_inputs
from components.training.data import Clips, Features
from components.training.journal import JournalWriter
from components.training.loop import Outcome, Speed, fit
from components.training.params import TrainingSection
from components.training.world import World

HISTORY = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)

# A run may go on with other values of these; the checkpoint keeps which held when.
HOW_WORK_IS_CUT = {"processes", "restarts", "chunk"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A fitted model and its record.

    Attributes:
        model: with the best weights, the same in every process.
        digests: the extractor digest of each modality's features.
        history: rows of the table.
        summary: what repeats when the run is repeated.
        speed: what does not.
        checkpoints: to be removed once all is written.
        journal: to be ended then.
        world: the processes of the run.
    """

    model: TrimodalModel
    digests: dict[Modality, str]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    speed: Speed
    checkpoints: Checkpoints
    journal: JournalWriter
    world: World

    def write(self, model: Path, history: Path, summary: Path) -> None:
        """Write the outputs, once for all processes, and part from these."""
        if self.world.first:
            with stage.atomic_folder(model) as folder:
                save_model(folder, self.model, self.digests)
            tables.write_rows(history, self.history, HISTORY, sort_by=("step", "name"))
            stage.write_json(summary, self.summary)
            self.journal.end(self.summary["weights_sha256"], self.speed.figures())
            self.checkpoints.remove()
        self.world.leave()


def train(
    manifest: Sequence[dict[str, Any]],
    features: Features,
    encoder: EncoderSection,
    section: TrainingSection,
    folder: Path,
    journal: Path,
) -> Trained:
    """Fit the model of section ``encoder``; ``folder`` holds the checkpoint of an unfinished run, ``journal`` tells of it.

    Raises:
        ValueError: too few clips or all of one track, a pickled checkpoint, too little memory, or the loss diverged.
    """
    world = World.join(section.threads)
    clips = features.clips(manifest, "train", section.least_train_clips)
    val = features.clips(manifest, "val", section.least_val_clips)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(section.seed, "weights", 0))
        model = TrimodalModel(encoder, {m: features.store(m).spec["dims"] for m in MODALITIES})
    standardise_inputs(model, features, clips, human_text=section.human_text > 0)
    if model.linear is not None:
        fit_linear_paths(model.linear, features, clips, val, section)
    bound_to = _bound_to(features, encoder, section, clips, val, world.device)
    saved, told = Checkpoints(folder, bound_to), JournalWriter(journal, bound_to)
    outcome = fit(model.to(world.device), features, clips, val, section, saved, told, world)
    rows = [{"step": step, "name": name, "value": value} for step, name, value in outcome.progress.history]
    summary = _summary(outcome, model, features, clips, val, section, world.device)
    digests = {m: features.store(m).digest for m in MODALITIES}
    return Trained(model, digests, rows, summary, outcome.speed, saved, told, world)


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
    numbers = [array.tobytes() for split in (clips, val) for array in (split.tracks, split.artists)]
    splits: list[str | bytes] = [*clips.ids, "", *val.ids, *numbers]
    computer = [torch.__version__, device.type, code_digest(train)]
    shape = section.model_dump_json(exclude=HOW_WORK_IS_CUT)
    return identity([encoder.model_dump_json(), shape, *computer, *splits, *contents])


def _summary(
    outcome: Outcome, model: TrimodalModel, features: Features, clips: Clips, val: Clips,
    section: TrainingSection, device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    progress = outcome.progress
    at_best = {row[1]: row[2] for row in progress.history if row[0] == progress.best_step}
    weights = hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in model.parameters()))
    return {
        "best_step": progress.best_step,
        "last_step": progress.step,
        "stopped_because": outcome.stopped_because,
        "at_best_step": at_best,
        "batch": outcome.batch,
        "cut": [{"from_step": step, "processes": n, "chunk": chunk} for step, n, chunk in progress.cuts],
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
